"""The inputs of a request as Python values, each checked against its signature.

Pure. Knows tensors and signatures; does not know what any input is for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from openmodel_runtime.errors import InvalidRequest, Unsupported
from openmodel_runtime.front.signature import LIST, TensorSignature
from openmodel_runtime.front.tensors import InputTensor, Value


class Inputs:
    """The inputs that a caller sent; InvalidRequest and Unsupported name the one that is wrong."""

    def __init__(
        self, tensors: Mapping[str, InputTensor], signatures: tuple[TensorSignature, ...], own: str | None
    ) -> None:
        self._tensors = tensors
        self.own = own or "one of the tensors"
        """The tensor that told which scheme this is, for errors."""
        for signature in signatures:
            if (tensor := tensors.get(signature.name)) is not None:
                _check(tensor, signature)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def scalar(self, name: str) -> Value:
        """The one element of an input that was sent."""
        return self._tensors[name].values[0]

    def flag(self, name: str, default: bool) -> bool:
        """A BOOL, `default` when it was not sent."""
        return bool(self.scalar(name)) if name in self._tensors else default

    def text(self, name: str) -> str:
        """The one element of a BYTES input that was sent."""
        return _text(name, self.scalar(name))

    def texts(self, name: str) -> list[str]:
        """All elements of a BYTES input; none when it was not sent."""
        return [_text(name, value) for value in self._tensors[name].values] if name in self._tensors else []

    def json(self, name: str) -> Any:
        """What the one element of a BYTES input says in JSON."""
        text = self.text(name)
        try:
            value = json.loads(text)
            if "\\ud" in text.lower():
                # Half a surrogate pair is JSON and no Unicode: neither a tokenizer nor a response can carry it.
                json.dumps(value, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"input {name!r} is not JSON: {error}") from None
        return value


def _check(tensor: InputTensor, signature: TensorSignature) -> None:
    name = tensor.name
    if not signature.offered:
        if tensor.values:
            raise Unsupported(f"input {name!r} is not supported: leave it out")
        return
    if tensor.datatype != signature.datatype:
        raise InvalidRequest(f"input {name!r} must be {signature.datatype}, not {tensor.datatype}")
    _check_shape(tensor, signature)
    if signature.only is not None and any(value not in signature.only for value in tensor.values):
        neutral = signature.only[0]
        raise Unsupported(
            f"input {name!r} is not supported: leave it out or send "
            f"{neutral.decode() or 'an empty string' if isinstance(neutral, bytes) else neutral}"
        )


def _check_shape(tensor: InputTensor, signature: TensorSignature) -> None:
    name, shape = tensor.name, tensor.shape
    if len(shape) == 2 and shape[0] != 1:
        raise InvalidRequest(
            f"input {name!r} has a batch of {shape[0]} in its shape {list(shape)}: a request has one prompt, so send a "
            "batch dimension of 1 or none"
        )
    if len(shape) not in (1, 2) or (signature.shape != LIST and shape[-1] != 1):
        wanted = "[k] or [1, k]" if signature.shape == LIST else "[1] or [1, 1]"
        raise InvalidRequest(f"input {name!r} must have shape {wanted}, not {list(shape)}")


def _text(name: str, value: Value) -> str:
    assert isinstance(value, bytes)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"input {name!r} is not UTF-8: {error}") from None
