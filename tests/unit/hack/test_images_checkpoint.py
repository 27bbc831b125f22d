"""hack/images packs a checkpoint folder, and its command line, against a registry double."""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from images_registry import IMAGES, Store, serving  # puts hack/images on the path

from openmodel_images import checkpoint
from openmodel_images.catalogue import ImagePlan, checkpoint_image
from openmodel_images.errors import BuildError
from openmodel_images.layers import Records
from openmodel_images.registry import Registry


def load_build_script() -> ModuleType:
    """`build` is too common a name for the import path of every test."""
    spec = spec_from_file_location("openmodel_images_build", IMAGES / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load_build_script()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def target(store: Store) -> Iterator[Registry]:
    with serving(store) as address:
        yield Registry(address, plain_http=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(checkpoint, "LARGE_BYTES", 100)
    root = tmp_path / "model"
    for name in ("blobs/one", "original/params.json", ".cache/lock", "config.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "model-1.safetensors").write_bytes(b"1" * 100)
    (root / "model-2.safetensors").write_bytes(b"2" * 200)
    (root / "linked.json").symlink_to("blobs/one")
    return root


def push(target: Registry, plan: ImagePlan, records: Path) -> str:
    return str(build.make(target, plan, Records(records)))


def test_checkpoint_lies_at_the_root(target: Registry, store: Store, folder: Path, tmp_path: Path) -> None:
    reference = push(target, checkpoint_image(folder, "tiny"), tmp_path / "records")
    address, _, digest = reference.partition("/openmodel/models/tiny@")
    assert address == target.address
    document = json.loads(store.manifests["openmodel/models/tiny", digest])
    assert store.types[digest] == document["mediaType"]
    assert ("openmodel/models/tiny", digest.removeprefix("sha256:")[:12]) in store.manifests
    files: dict[str, bytes] = {}
    for layer in document["layers"]:
        content = store.blobs["openmodel/models/tiny", layer["digest"]]
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            for member in tar.getmembers():
                reader = tar.extractfile(member)
                if reader is not None:
                    files[member.name] = reader.read()
    assert len(document["layers"]) == 3
    assert files.pop("linked.json") == b"blobs/one"
    assert files.pop("model-2.safetensors") == b"2" * 200
    assert sorted(files) == [
        "blobs/one",
        "config.json",
        "model-1.safetensors",
        "original/params.json",
    ]


def test_copied_checkpoint_has_the_same_digest_and_costs_nothing(
    target: Registry, store: Store, folder: Path, tmp_path: Path
) -> None:
    reference = push(target, checkpoint_image(folder, "tiny"), tmp_path / "records")
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(folder), str(copy)], check=True)
    store.requests.clear()
    assert push(target, checkpoint_image(copy, "tiny"), tmp_path / "other") == reference
    # The manifest's tag is written again; no content is sent.
    assert not [line for line in store.sent() if "/manifests/" not in line]


def test_unchanged_shards_are_shared_with_the_next_version(
    target: Registry, store: Store, folder: Path, tmp_path: Path
) -> None:
    push(target, checkpoint_image(folder, "tiny"), tmp_path / "records")
    before = set(store.blobs)
    (folder / "config.json").write_text("changed")
    push(target, checkpoint_image(folder, "tiny"), tmp_path / "records")
    assert len(set(store.blobs) - before) == 2  # the small files' layer and the config


def test_many_shards_stay_below_the_limit_of_an_overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "LARGE_BYTES", 1)
    for number in range(330):
        (tmp_path / f"{number:05}").write_bytes(b"x")
    layers = checkpoint.checkpoint_layers(tmp_path)
    assert len(layers) <= checkpoint.MOST_LAYERS
    names = [str(path) for layer in layers for path in layer.files]
    assert names == [f"{number:05}" for number in range(330)]


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_folder_without_files_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BuildError):
        checkpoint.checkpoint_layers(tmp_path / name)


def test_targets(folder: Path) -> None:
    found = build.plans(["model", str(folder), "one", str(folder), "two"])
    repositories = [plan.repository for plan in found]
    assert repositories == ["openmodel/models/one", "openmodel/models/two"]


@pytest.mark.parametrize("words", [["model"], ["model", "{}"], ["model", "{}", "Upper"], ["model", "{}", "a/b"], ["x"]])
def test_what_is_not_understood_is_said(words: list[str], folder: Path) -> None:
    with pytest.raises(BuildError):
        build.plans([word.format(folder) for word in words])


def test_reference_goes_to_stdout_and_into_the_cache(
    target: Registry,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OPENMODEL_CACHE", str(tmp_path / "cache"))
    build.main([f"--registry={target.address}", "model", str(folder), "tiny"])
    line = capsys.readouterr().out
    reference = (tmp_path / "cache/images/models/tiny.ref").read_text()
    assert line == f"tiny={reference}"
    assert reference.startswith(f"{target.address}/openmodel/models/tiny@sha256:")
