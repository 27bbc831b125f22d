"""`openmodel-fetch` against a hub: what it asks for, what it leaves on the disk, and what it says when it can not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import write_tiny_mixtral
from hub_server import HubDouble, serve_hub
from openmodel_fetch import download as download_module
from openmodel_fetch.errors import EXIT_INTERRUPTED, FetchInterrupted
from openmodel_fetch.hub import Hub
from openmodel_fetch.main import main
from openmodel_fetch.manifest import ManifestFile, digest
from openmodel_fetch.progress import telling
from openmodel_fetch.source import parse_source
from openmodel_operator.inspection import read_summary
from openmodel_operator.job_progress import read_progress
from openmodel_runtime.errors import EXIT_START_FAILED

REPOSITORY = "openmodel/tiny"
PLACE = f"openmodel--tiny/{'1' * 40}"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubDouble]:
    folder = write_tiny_mixtral(tmp_path / "remote", dtype=torch.bfloat16, shards=2)
    (folder / "pytorch_model.bin").write_bytes(b"never")
    (folder / "modeling_tiny.py").write_text("never = 1")
    (folder / "consolidated.safetensors").write_bytes(b"the same weights in another form")
    with serve_hub(HubDouble(REPOSITORY, folder)) as served:
        yield served


def run(hub: HubDouble, tmp_path: Path, *arguments: str, source: str = f"hf://{REPOSITORY}") -> tuple[int, Any]:
    told = tmp_path / "told"
    code = main([*arguments, f"--source={source}", f"--endpoint={hub.url}", f"--termination-message-path={told}"])
    return code, json.loads(told.read_text())


def download(hub: HubDouble, tmp_path: Path, *more: str, **source: str) -> tuple[int, Any]:
    return run(hub, tmp_path, "download", f"--cache={tmp_path / 'cache'}", *more, **source)


def test_a_remote_checkpoint_is_inspected_without_its_data(hub: HubDouble, tmp_path: Path) -> None:
    code, told = run(hub, tmp_path, "inspect")
    assert code == 0
    assert told["commit"] == hub.commit
    assert main(["inspect", f"--model={hub.folder}", f"--termination-message-path={tmp_path / 'local'}"]) == 0
    local = json.loads((tmp_path / "local").read_text())
    seen = read_summary(json.dumps(told))
    assert replace(seen, commit="", download_bytes=0) == read_summary(json.dumps(local))
    assert seen.download_bytes == sum(
        path.stat().st_size
        for path in hub.folder.iterdir()
        if path.suffix in (".json", ".jinja", ".md") or "model-" in path.name
    )
    for path in hub.folder.glob("model-*.safetensors"):
        assert hub.sent[path.name] < path.stat().st_size / 2


def test_a_checkpoint_is_there_whole_with_a_manifest_and_nothing_else(hub: HubDouble, tmp_path: Path) -> None:
    code, told = download(hub, tmp_path)
    assert code == 0
    assert told["path"] == PLACE
    place = tmp_path / "cache" / PLACE
    names = {path.name for path in place.iterdir()}
    assert names == {path.name for path in hub.folder.iterdir()} - {
        "pytorch_model.bin",
        "modeling_tiny.py",
        "consolidated.safetensors",
    } | {"openmodel-manifest.json"}
    manifest = json.loads((place / "openmodel-manifest.json").read_text())
    assert manifest["digest"] == told["digest"] == digest([ManifestFile(**file) for file in manifest["files"]])
    assert {file["path"] for file in manifest["files"]} == names - {"openmodel-manifest.json"}
    sent = dict(hub.sent)
    assert download(hub, tmp_path) == (0, told)
    assert hub.sent == sent, "what is there is not fetched again"


def test_a_connection_that_is_cut_goes_on_at_the_byte(
    hub: HubDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = 4096
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", piece)
    monkeypatch.setattr("time.sleep", lambda _: None)
    (shard, *_) = sorted(hub.folder.glob("model-*.safetensors"))
    size = shard.stat().st_size
    hub.cut_after = size // 2
    assert download(hub, tmp_path)[0] == 0
    assert size <= hub.sent[shard.name] <= size + piece
    assert (tmp_path / "cache" / PLACE / shard.name).read_bytes() == shard.read_bytes()


def test_a_fetch_that_ended_goes_on_at_the_file(hub: HubDouble, tmp_path: Path) -> None:
    first, second = sorted(hub.folder.glob("model-*.safetensors"))
    hub.broken_file = second.name
    assert download(hub, tmp_path)[0] == EXIT_START_FAILED
    assert not (tmp_path / "cache" / PLACE).exists()
    (notes,) = (tmp_path / "cache").rglob(".cache/huggingface/download")
    (notes / "left-by-a-crash.incomplete").write_bytes(b"half")
    hub.broken_file = ""
    assert download(hub, tmp_path)[0] == 0
    assert hub.sent[first.name] == first.stat().st_size
    assert not list((tmp_path / "cache").rglob("*.incomplete"))


def test_a_crash_at_any_point_leaves_nothing_that_looks_whole(
    hub: HubDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    calls = [0]
    real = download_module._sync

    def crash_at(number: int) -> None:
        calls[0] = 0

        def sync(path: Path) -> None:
            calls[0] += 1
            if calls[0] == number:
                raise Crash
            real(path)

        monkeypatch.setattr(download_module, "_sync", sync)

    place = tmp_path / "cache" / PLACE
    for number in range(1, 50):
        crash_at(number)
        try:
            assert download(hub, tmp_path)[0] == 0
            break
        except Crash:
            # The last of all comes after the rename.
            assert not place.exists() or (place / "openmodel-manifest.json").is_file()
    assert number > 5
    assert {path.name for path in place.parent.iterdir()} == {hub.commit, f".{hub.commit}.lock"}


def test_damaged_data_is_never_kept(hub: HubDouble, tmp_path: Path) -> None:
    hub.damaged = True
    code, told = download(hub, tmp_path)
    assert (code, told["reason"]) == (EXIT_INTERRUPTED, "FetchInterrupted")
    assert "came damaged" in told["message"]
    hub.damaged = False
    assert download(hub, tmp_path)[0] == 0


@pytest.mark.parametrize(
    ("source", "more", "words"),
    [
        ("hf://openmodel/other", (), "spec.model.source: there is no openmodel/other"),
        ("hf://tiny", (), "spec.model.source: 'hf://tiny' is not hf://ORGANIZATION/NAME"),
        (f"hf://{REPOSITORY}", ("--revision=other",), "spec.model.revision: there is no openmodel/tiny at other"),
        (f"hf://{REPOSITORY}", ("--token-file=/nowhere",), "spec.model.secretRef"),
    ],
)
def test_what_the_hub_does_not_have_is_told_with_the_field(
    hub: HubDouble, tmp_path: Path, source: str, more: tuple[str, ...], words: str
) -> None:
    code, told = download(hub, tmp_path, *more, source=source)
    assert (code, told["reason"]) == (EXIT_START_FAILED, "SourceRefused")
    assert words in told["message"]


def test_a_token_is_needed_for_some_and_never_told(hub: HubDouble, tmp_path: Path) -> None:
    hub.token, hub.gated = "hf_secret", True
    code, told = download(hub, tmp_path)
    assert (code, told["reason"]) == (EXIT_START_FAILED, "SourceRefused")
    assert "is gated" in told["message"]
    (tmp_path / "token").write_text("hf_secret\n")
    code, told = download(hub, tmp_path, f"--token-file={tmp_path / 'token'}")
    assert code == 0
    assert "hf_secret" not in json.dumps(told)
    assert all(b"hf_secret" not in path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_no_token_is_sent_that_was_not_given(hub: HubDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "of-the-machine")
    assert download(hub, tmp_path)[0] == 0
    assert hub.authorizations == {""}


def test_too_little_room_is_told_before_the_download(
    hub: HubDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 200_000})())
    code, told = download(hub, tmp_path)
    assert (code, told["reason"]) == (EXIT_INTERRUPTED, "StorageFull")
    assert "spec.model.cache" in told["message"]
    assert not any(name.endswith(".safetensors") for name in hub.sent)


@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_that_fails_is_asked_again_later(
    hub: HubDouble, tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.broken = status
    monkeypatch.setattr("time.sleep", lambda _: None)
    code, told = download(hub, tmp_path)
    assert (code, told["reason"]) == (EXIT_INTERRUPTED, "FetchInterrupted")
    hub.broken = 0
    assert download(hub, tmp_path)[0] == 0


def test_a_hub_that_is_away_is_told_so(hub: HubDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.url = "http://127.0.0.1:9"
    code, told = download(hub, tmp_path)
    assert (code, told["reason"]) == (EXIT_INTERRUPTED, "FetchInterrupted")
    assert "can not be reached" in told["message"]


def test_the_operator_reads_how_far_a_fetch_has_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"x" * 70)
    told = ""
    with telling(tmp_path, 100, seconds=0.001):
        while not told:
            told = capsys.readouterr().err
    progress = read_progress(told)
    assert progress is not None
    assert (progress.count, progress.total) == (70, 100)


def test_a_folder_that_no_fetch_put_there_is_no_checkpoint(hub: HubDouble, tmp_path: Path) -> None:
    (tmp_path / "cache" / PLACE).mkdir(parents=True)
    assert download(hub, tmp_path)[0] == 0
    assert (tmp_path / "cache" / PLACE / "config.json").is_file()


def test_a_hub_that_goes_away_on_the_way_is_asked_again(
    hub: HubDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = parse_source(f"hf://{REPOSITORY}", None, hub.url, None)
    model = Hub(source).resolve()
    away = Hub(replace(source, endpoint="http://127.0.0.1:9"))
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(FetchInterrupted):
        download_module.download(away, REPOSITORY, model, tmp_path / "cache")


@pytest.mark.parametrize("commit", ["", "..", "../other--model/" + "1" * 40])
def test_a_commit_that_is_none_is_refused(hub: HubDouble, tmp_path: Path, commit: str) -> None:
    hub.commit = commit
    code, told = download(hub, tmp_path)
    assert (code, told["reason"]) == (EXIT_START_FAILED, "SourceRefused")
    assert not (tmp_path / "cache").exists()


def test_a_small_file_that_is_large_is_not_fetched(
    hub: HubDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openmodel_fetch.hub._MOST_SMALL_BYTES", 100)
    code, told = run(hub, tmp_path, "inspect")
    assert (code, told["reason"]) == (EXIT_START_FAILED, "SourceRefused")
    assert hub.sent == {}
