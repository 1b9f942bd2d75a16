"""Download a file once, check it, and keep it."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

from cellular_bench.benchmark.errors import DataError

#: Environment variable that names the folder for downloads.
CACHE_VARIABLE = "CELLULAR_BENCH_CACHE"
#: Seconds without a byte after which a download is given up.
TIMEOUT_S = 60.0
SCHEMES = ("http", "https")


def cache_dir() -> Path:
    """Folder of the downloads: ``$CELLULAR_BENCH_CACHE``, else the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cellular-bench"


def fetch(url: str, *, sha256: str, dataset_id: str, timeout_s: float = TIMEOUT_S) -> Path:
    """Return the path of a downloaded file with this checksum, downloading it if need be.

    A file already in :func:`cache_dir` is checked again and used without touching the network.
    The file appears under its name only once it is complete and checked, so an interrupted
    download leaves nothing behind that could be taken for data.

    Raises
    ------
    DataError
        If the address cannot be reached or the file has another checksum.
    """
    folder = cache_dir() / sha256[:16]
    target = folder / (Path(urlsplit(url).path).name or "download")
    if target.is_file() and file_sha256(target) == sha256:
        return target
    if urlsplit(url).scheme not in SCHEMES:
        raise DataError(
            dataset_id, [f"Cannot download {url}: expected an address with {' or '.join(SCHEMES)}."]
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        part = Path(temporary) / "part"
        _download(url, part, dataset_id=dataset_id, timeout_s=timeout_s)
        came = file_sha256(part)
        if came != sha256:
            problem = f"The file at {url} has changed: its sha256 is {came}, expected {sha256}."
            raise DataError(dataset_id, [problem])
        # Replaces in one step: of two processes that download at once, the last wins with the same bytes.
        part.replace(target)
    return target


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, target: Path, *, dataset_id: str, timeout_s: float) -> None:
    from http.client import HTTPException
    from urllib.request import urlopen

    try:
        # The scheme was checked by the caller: neither file: nor a custom one comes here.
        with urlopen(url, timeout=timeout_s) as answer, target.open("wb") as file:  # noqa: S310
            shutil.copyfileobj(answer, file)
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        problem = f"Cannot download {url}: {reason}. Check the connection, or load the file by its path."
        raise DataError(dataset_id, [problem]) from error
