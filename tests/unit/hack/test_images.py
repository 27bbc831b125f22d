"""hack/images pushes what is missing and nothing else, over real HTTP to a registry double."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from images_registry import Store, serving  # puts hack/images on the path

from openmodel_images import registry
from openmodel_images.errors import BuildError
from openmodel_images.layers import Records, ensure_layer, key_of
from openmodel_images.registry import Blob, Registry
from openmodel_images.tar_stream import ByteSink


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def target(store: Store) -> Iterator[Registry]:
    with serving(store) as address:
        yield Registry(address, plain_http=True)


@dataclass
class TextLayer:
    """A layer that counts how often it was made."""

    text: bytes
    repeatable: bool = False
    name: str = "text"
    made: int = 0

    @property
    def key(self) -> str:
        return key_of(self.text)

    def write_to(self, sink: ByteSink) -> None:
        self.made += 1
        sink.write(self.text)


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 35])
def test_blob_arrives_in_pieces(size: int, target: Registry, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PIECE_BYTES", 10)
    content = os.urandom(size)
    with target.upload("r") as upload:
        for first in range(0, size, 7):
            upload.write(content[first : first + 7])
        blob = upload.commit()
    assert blob == Blob(digest=registry.digest_of(content), size=size)
    assert store.blobs == {("r", blob.digest): content}
    assert sum(line.startswith("PATCH") for line in store.requests) == -(-size // 10)


def test_broken_upload_leaves_nothing(target: Registry, store: Store) -> None:
    def send_half() -> None:
        with target.upload("r") as upload:
            upload.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        send_half()
    assert not store.uploads
    assert not store.blobs


def test_a_layer_is_made_once(target: Registry, store: Store, tmp_path: Path) -> None:
    layer, records = TextLayer(b"text"), Records(tmp_path)
    first = ensure_layer(target, "r", layer, records)
    store.requests.clear()
    assert ensure_layer(target, "r", layer, records) == first
    assert layer.made == 1
    assert store.sent() == []
    record = json.loads((tmp_path / f"{layer.key}.json").read_text())
    assert record["diff_id"] == record["digest"] == first.digest


def test_another_repository_mounts_it(target: Registry, store: Store, tmp_path: Path) -> None:
    layer, records = TextLayer(b"text"), Records(tmp_path)
    blob = ensure_layer(target, "one", layer, records)
    ensure_layer(target, "two", layer, records)
    assert layer.made == 1
    assert store.blobs["two", blob.digest] == b"text"


def test_a_registry_that_lost_the_blob_gets_it_again(target: Registry, store: Store, tmp_path: Path) -> None:
    layer, records = TextLayer(b"text"), Records(tmp_path)
    ensure_layer(target, "one", layer, records)
    store.blobs.clear()
    blob = ensure_layer(target, "two", layer, records)
    assert layer.made == 2
    assert store.blobs == {("two", blob.digest): b"text"}
    assert not store.uploads  # The refused mount had opened one.


def test_repeatable_layer_is_sent_only_if_missing(target: Registry, store: Store, tmp_path: Path) -> None:
    ensure_layer(target, "one", TextLayer(b"text"), Records(tmp_path / "records"))
    store.requests.clear()
    forgotten = Records(tmp_path / "other")
    ensure_layer(target, "one", TextLayer(b"text", repeatable=True), forgotten)
    assert store.sent() == []


def test_torn_record_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text('{"digest": "sha256:')
    assert Records(tmp_path).load("key") is None


def test_forgotten_key_is_made_again(target: Registry, tmp_path: Path) -> None:
    layer, records = TextLayer(b"text"), Records(tmp_path)
    ensure_layer(target, "r", layer, records)
    records.forget(layer.key)
    ensure_layer(target, "r", layer, records)
    assert layer.made == 2


@dataclass
class RestlessLayer(TextLayer):
    """Somebody edits its input while it is being made."""

    @property
    def key(self) -> str:
        return key_of(str(self.made))


def test_inputs_that_change_meanwhile_are_not_recorded(target: Registry, tmp_path: Path) -> None:
    ensure_layer(target, "r", RestlessLayer(b"text"), Records(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_no_registry_is_a_clear_message() -> None:
    with pytest.raises(BuildError, match="does not answer"):
        Registry("127.0.0.1:1", plain_http=True).check()


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:5000", True),
        ("localhost:5000", True),
        ("[::1]:5000", True),
        ("registry.example", False),
        ("10.0.0.1:5000", False),
    ],
)
def test_tls_is_left_out_on_loopback_only(address: str, loopback: bool) -> None:
    assert registry.is_loopback(address) is loopback
