"""What a run prints, kept in bounds: the beginning and the end of it."""

from __future__ import annotations

import os
from collections import deque

#: Bytes kept from the beginning, and again from the end.
KEPT_BYTES = 2**20
_CHUNK = 2**16


class BoundedLog:
    """Copies what comes out of a pipe to an open file, and keeps the file small however much comes.

    The beginning is written at once; of the rest, the end is written when the log is closed.

    Attributes
    ----------
    is_lost
        True where the file could not be written, as on a full disk.
    """

    def __init__(self, pipe: int, file: int, *, kept_bytes: int = KEPT_BYTES) -> None:
        os.set_blocking(pipe, False)
        self.pipe = pipe
        self.is_lost = False
        self._room = kept_bytes
        self._kept = kept_bytes
        self._end: deque[bytes] = deque()
        self._end_bytes = 0
        self._left_out = 0
        self._file = file

    def drain(self) -> bool:
        """Take in what has come; False once the other end is closed for good."""
        while True:
            try:
                chunk = os.read(self.pipe, _CHUNK)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self._take(chunk)

    def close(self) -> None:
        """Write the end, and say how much was left out before it."""
        self.drain()
        if self._left_out:
            self._write(f"\n[... {self._left_out} bytes left out ...]\n".encode())
        for chunk in self._end:
            self._write(chunk)

    def _take(self, chunk: bytes) -> None:
        beginning, rest = chunk[: self._room], chunk[self._room :]
        self._room -= len(beginning)
        self._write(beginning)
        if not rest:
            return
        self._end.append(rest)
        self._end_bytes += len(rest)
        while self._end_bytes - len(self._end[0]) >= self._kept:
            dropped = len(self._end.popleft())
            self._end_bytes -= dropped
            self._left_out += dropped

    def _write(self, data: bytes) -> None:
        if self.is_lost:
            return
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            self.is_lost = True
