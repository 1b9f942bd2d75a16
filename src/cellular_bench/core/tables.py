"""Tables of text, and those whose first column holds names."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from cellular_bench.core.files import open_regular
from cellular_bench.core.npz import most_unpacked

if TYPE_CHECKING:
    import pandas as pd

_UNPACKED_BY: Final[dict[str, Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def boxed(name: str) -> tuple[str]:
    """Return a name as a tuple: pandas would turn text such as 007 into 7, and NA into a missing value."""
    return (name,)


def read_text_table(path: Path, **options: Any) -> pd.DataFrame:
    """Read a table of text that somebody else may have written, compressed if its name says so.

    Parameters
    ----------
    path
        A file, or a link to one. Known compressions are gz, bz2 and xz.
    options
        Further arguments of :func:`pandas.read_csv`.

    Raises
    ------
    OSError
        If it cannot be opened, is a pipe or a device, or is damaged.
    ValueError
        If it is no such table, is damaged, or unpacks to more than :func:`.most_unpacked`.
    """
    import pandas as pd

    with open_regular(path.resolve()) as file, unpacked(file, path.suffix) as content:
        return pd.read_csv(content, **options)


@contextmanager
def unpacked(file: IO[bytes], suffix: str) -> Iterator[IO[bytes]]:
    """Yield the content of a file that may be compressed, up to :func:`.most_unpacked` bytes.

    Raises
    ------
    OSError, ValueError
        If the content is longer or damaged.
    """
    opener = _UNPACKED_BY.get(suffix.lower())
    if opener is None:
        yield file
        return
    limit = most_unpacked(file.seek(0, 2))
    file.seek(0)
    try:
        with opener(file) as content:
            yield io.BufferedReader(_Limited(content, limit))
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ValueError(f"it is damaged: {error}") from error


class _Limited(io.RawIOBase):
    """Content of a file up to a number of bytes; more is an error."""

    def __init__(self, content: Any, limit: int) -> None:
        self._content, self._limit, self._n_read = content, limit, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n_read: int = self._content.readinto(buffer)
        self._n_read += n_read
        if self._n_read > self._limit:
            raise ValueError(f"it unpacks to more than {self._limit} bytes")
        return n_read


def read_named(path: Path, **options: Any) -> pd.DataFrame:
    """Read a table of which the first column, the index of the result, holds names: they keep their spelling.

    Parameters and errors as for :func:`read_text_table`.
    """
    import pandas as pd

    table = read_text_table(path, converters={0: boxed}, **options)
    names = [name for (name,) in table.iloc[:, 0]]
    return table.iloc[:, 1:].set_axis(pd.Index(names, dtype=object, name=table.columns[0]))
