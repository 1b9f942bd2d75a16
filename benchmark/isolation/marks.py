"""Marks by which a run shows its supervisor where it is, so that the supervisor measures what it costs.

A run has no part in the measurement: it sends a letter and waits until the supervisor has looked.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final, Literal

Mark = Literal["warm-up", "begin", "end"]
_LETTERS: Final[dict[Mark, bytes]] = {"warm-up": b"w", "begin": b"b", "end": b"e"}
_MARKS: Final[dict[int, Mark]] = {letter[0]: name for name, letter in _LETTERS.items()}
_SEEN: Final = b"."
#: A run that sends more is not one of ours, and is not listened to any more.
MOST_MARKS: Final = 100
#: How long a run waits for the supervisor to look.
LONGEST_WAIT_S: Final = 60.0

#: The end of this process if it is a run; None elsewhere.
_own: socket.socket | None = None


def use(end: socket.socket) -> None:
    """Send marks to the supervisor at the other end from now on."""
    global _own  # this process is one run
    end.settimeout(LONGEST_WAIT_S)
    _own = end


def mark(name: Mark) -> None:
    """Show the supervisor that something begins or ends now; nothing happens outside a run.

    If the supervisor is not there any more, neither is anybody who would read the result.
    """
    if _own is not None:
        _own.sendall(_LETTERS[name])
        _own.recv(1)


class Marks:
    """The supervisor's end: marks as they come, whatever else a run sends."""

    def __init__(self, end: socket.socket) -> None:
        end.settimeout(0)
        self.end: socket.socket | None = end
        self._left = MOST_MARKS

    def take(self) -> list[Mark]:
        """Return what has come; the run waits until :meth:`answer`."""
        if self.end is None:
            return []
        try:
            received = self.end.recv(MOST_MARKS)
        except BlockingIOError:
            return []
        except OSError:
            received = b""
        self._left -= len(received)
        if not received or self._left < 0:
            self.close()
        return [_MARKS[letter] for letter in received if letter in _MARKS]

    def answer(self) -> None:
        """Let the run go on."""
        if self.end is not None:
            with contextlib.suppress(OSError):  # it does not listen, or is gone
                self.end.send(_SEEN)

    def close(self) -> None:
        """Listen no more."""
        if self.end is not None:
            self.end.close()
            self.end = None
