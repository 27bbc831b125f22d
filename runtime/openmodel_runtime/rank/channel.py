"""A rank's end of the socket pair to its front: whole messages, from any thread."""

from __future__ import annotations

import socket
import threading

from openmodel_runtime.rank.messages import LENGTH_BYTES, FromRank, ToRank, body_length, decode_to_rank, encode


class Channel:
    """One thread receives; any thread sends."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._sending = threading.Lock()

    def receive(self) -> ToRank | None:
        """The next message, or None at the end of the stream."""
        prefix = self._receive_exactly(LENGTH_BYTES)
        body = None if prefix is None else self._receive_exactly(body_length(prefix))
        return None if body is None else decode_to_rank(body)

    def send(self, message: FromRank) -> None:
        """Raises BrokenPipeError or ConnectionResetError when the front is gone."""
        with self._sending:
            self._stream.sendall(encode(message))

    def _receive_exactly(self, count: int) -> bytes | None:
        data = bytearray()
        while len(data) < count:
            try:
                part = self._stream.recv(count - len(data))
            except ConnectionResetError:
                return None
            if not part:
                return None
            data += part
        return bytes(data)
