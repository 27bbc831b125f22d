"""hack/images: the same files give the same bytes; documents and contents are as they must be."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from images_registry import IMAGES  # puts hack/images on the path

from openmodel_images import debian_base, manifest, pruning
from openmodel_images.application import read_application
from openmodel_images.catalogue import PROGRAMS
from openmodel_images.errors import BuildError
from openmodel_images.registry import Blob
from openmodel_images.tar_stream import TarStream, files_below


def tar_of(root: Path) -> bytes:
    sink = io.BytesIO()
    with TarStream(sink) as tar:
        for path in files_below(root):
            tar.add_file(root / path, PurePosixPath("opt") / path)
    return sink.getvalue()


def make_tree(root: Path, names: list[str], time: int) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"content of {name}")
        os.utime(root / name, (time, time))
    (root / "a/run").chmod(0o700)
    (root / "a/link").symlink_to("run")
    return root


def test_same_files_same_bytes(tmp_path: Path) -> None:
    names = ["a/run", "a/b/deep", "z", "a-b"]
    one = make_tree(tmp_path / "one", names, time=1)
    other = make_tree(tmp_path / "other", names[::-1], time=2_000_000_000)
    (other / "z").chmod(0o666)
    assert tar_of(one) == tar_of(other)


def test_tar_is_readable_and_anonymous(tmp_path: Path) -> None:
    long_name = "ü" + "x" * 120 + "/file"
    root = make_tree(tmp_path / "root", ["a/run", "z", long_name], time=1)
    with tarfile.open(fileobj=io.BytesIO(tar_of(root))) as tar:
        members = {member.name: member for member in tar.getmembers()}
        names = ["opt", "opt/z", "opt/a", "opt/a/link", "opt/a/run"]
        deep = f"opt/{long_name}"
        assert list(members) == [*names, str(PurePosixPath(deep).parent), deep]
        assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members.values()} == {(0, 0, "", "", 0)}
        modes = {name: oct(members[name].mode) for name in ("opt/a", "opt/z", "opt/a/run")}
        assert modes == {"opt/a": "0o755", "opt/z": "0o644", "opt/a/run": "0o755"}
        assert members["opt/a/link"].linkname == "run"
        content = tar.extractfile("opt/z")
        assert content is not None
        assert content.read() == b"content of z"


def test_a_file_that_shrinks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "shard"
    path.write_bytes(b"1234")
    sink = io.BytesIO()
    original = Path.open

    def shrink_then_open(self: Path, *arguments: object, **options: object) -> object:
        os.truncate(self, 2)
        return original(self, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", shrink_then_open)
    with pytest.raises(BuildError, match="changed while"), TarStream(sink) as tar:
        tar.add_file(path, PurePosixPath("shard"))


def program_settings() -> manifest.ImageSettings:
    return manifest.ImageSettings(
        labels={"org.opencontainers.image.title": "t"},
        entrypoint=["/usr/bin/python3", "-m", "openmodel_runtime"],
        environment={"PYTHONPATH": "/opt/openmodel/app:/opt/openmodel/lib"},
        user="65532:65532",
    )


LAYERS = [(name, Blob(digest=f"sha256:{name}", size=n)) for n, name in enumerate("abc")]


def test_config_of_a_program() -> None:
    document = json.loads(manifest.config_bytes(program_settings(), LAYERS))
    assert document["os"] == "linux"
    assert document["rootfs"] == {
        "type": "layers",
        "diff_ids": ["sha256:a", "sha256:b", "sha256:c"],
    }
    assert len(document["history"]) == 3
    assert document["config"] == {
        "Entrypoint": ["/usr/bin/python3", "-m", "openmodel_runtime"],
        "Env": ["PYTHONPATH=/opt/openmodel/app:/opt/openmodel/lib"],
        "User": "65532:65532",
        "WorkingDir": "/",
        "Labels": {"org.opencontainers.image.title": "t"},
    }


def test_manifest_names_config_and_layers() -> None:
    config = Blob(digest="sha256:config", size=7)
    document = json.loads(manifest.manifest_bytes(config, [blob for _, blob in LAYERS]))
    assert document["schemaVersion"] == 2
    assert document["config"] == {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": "sha256:config",
        "size": 7,
    }
    assert [layer["digest"] for layer in document["layers"]] == ["sha256:a", "sha256:b", "sha256:c"]
    assert {layer["mediaType"] for layer in document["layers"]} == {"application/vnd.oci.image.layer.v1.tar"}


@pytest.mark.parametrize(("machine", "name"), [("x86_64", "amd64"), ("aarch64", "arm64")])
def test_architecture_in_the_words_of_oci(machine: str, name: str) -> None:
    assert manifest.architecture(machine) == name


def test_code_layer_has_sources_and_licence_alone(tmp_path: Path) -> None:
    for name in ("LICENSE", "protos/p/__init__.py", "protos/p/__pycache__/x.pyc", "protos/p/.x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = read_application(tmp_path, ["protos/p"])
    assert [str(file.path) for file in found.files] == ["LICENSE", "p/__init__.py"]


def test_each_program_gets_only_its_own_packages() -> None:
    assert "runtime" not in "".join(PROGRAMS["operator"])
    assert "openmodel_operator" not in "".join(PROGRAMS["runtime"])


@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ("torch/testing/__init__.py", True),
        ("torch/lib/libtorch_cpu.so", True),
        ("torch/include", False),
        ("torch/bin/torch_shm_manager", True),
        ("triton/backends/nvidia/include", True),
        ("triton/backends/nvidia/include/cuda.h", True),
        ("triton/backends/amd/include", False),
        ("nvidia/cu13/include", False),
        ("nvidia/cu13/lib/libcublas.so.13", True),
        ("nvidia/cu13/lib/libcudart_static.a", False),
        ("sympy/core/tests", False),
        ("jinja2/tests.py", True),
        ("torch-2.15.0.dist-info/METADATA", True),
        ("torch-2.15.0.dist-info/RECORD", False),
        ("bin", False),
    ],
)
def test_pruning(path: str, needed: bool) -> None:
    assert pruning.is_needed(PurePosixPath(path)) is needed


def test_bytecode_is_reproducible_and_unchecked(tmp_path: Path) -> None:
    names = [f"module_{number}.py" for number in range(9)]
    source = "WORDS = {'b', 'a', 'c'}\ndef f(x):\n    return x in {'one', 'two', 'three'}\n"
    outputs = []
    for run in ("one", "two"):
        root = tmp_path / run
        root.mkdir()
        for name in names:
            (root / name).write_text(source)
        (root / "template.py").write_text("def {{ name }}")
        subprocess.run(
            [sys.executable, str(IMAGES / "openmodel_images/bytecode.py"), root, "/final", root],
            input="\n".join([*names, "template.py"]),
            text=True,
            env=os.environ | {"PYTHONHASHSEED": "0"},
            check=True,
        )
        compiled = sorted((root / "__pycache__").iterdir())
        outputs.append([(path.name, path.read_bytes()) for path in compiled])
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == len(names)
    assert outputs[0][0][1][4:8] == b"\x01\x00\x00\x00"  # hash-based, unchecked (PEP 552)
    assert b"/final/module_0.py" in outputs[0][0][1]


def test_debian_lends_its_own_sources_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENMODEL_DEBIAN_SOURCES", raising=False)
    listed = tmp_path / "apt/sources.list.d/debian.sources"
    listed.parent.mkdir(parents=True)
    for path in (listed, listed.with_name("third-party.list"), tmp_path / "apt/sources.list"):
        path.write_text("deb …")
    release = tmp_path / "os-release"
    release.write_text("VERSION_CODENAME=bookworm\n")
    assert debian_base.machine_sources(tmp_path) == (listed, tmp_path / "apt/sources.list")
    release.write_text("VERSION_CODENAME=noble\n")
    assert debian_base.machine_sources(tmp_path) == ()
    monkeypatch.setenv("OPENMODEL_DEBIAN_SOURCES", str(listed))
    assert debian_base.machine_sources(tmp_path) == (listed,)
