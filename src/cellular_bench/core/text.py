"""Text that somebody else wrote, made safe to show: nothing invisible, no commands to a terminal, no book."""

from __future__ import annotations

import re
from typing import Final

#: The most characters of one text in a report or on a terminal.
MOST_TEXT: Final = 2000
#: The most characters of a name.
MOST_NAME: Final = 120
#: The most characters of a reason where many of them are shown.
MOST_REASON: Final = 400

#: Colours of a terminal, which many programs print.
_COLOURS: Final = re.compile("(?:\x1b\\[|\x9b)[0-9;]*m")
#: Controls but tab and line feed, marks that turn the direction of writing, characters without width,
#: separators that break a line in some programs only, halves of characters.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    r"""Write what cannot be seen as escapes, and leave out the colours of a terminal; lines are kept.

    Examples
    --------
    >>> visible("\x1b[31mred\x1b[0m, \x1b[2J cleared, \u202egnp.exe")
    'red, \\x1b[2J cleared, \\u202egnp.exe'
    """
    return _UNSEEN.sub(_escaped, _COLOURS.sub("", text.replace("\r\n", "\n")))


def _escaped(match: re.Match[str]) -> str:
    char = match.group()
    return f"\\x{ord(char):02x}" if ord(char) < 128 else char.encode("ascii", "backslashreplace").decode()


def cut(text: str, most: int = MOST_TEXT) -> str:
    """Shorten a text, and say how long it was.

    Examples
    --------
    >>> cut("x" * 5000, 10)
    'xxxxxxxxxx… (5,000 characters)'
    """
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def one_line(text: str, most: int = MOST_TEXT) -> str:
    r"""Return a text as one line in which everything can be seen, cut where it is longer than ``most``.

    Examples
    --------
    >>> one_line("a\n  b\tc\x07")
    'a b c\\x07'
    """
    return visible(" ".join(cut(text, most).split()))
