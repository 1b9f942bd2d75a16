"""Download a file once, resume interrupted downloads, and check and cache the file."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib import request
from urllib.error import HTTPError, URLError

from cellular_bench.core.errors import DataError
from cellular_bench.core.files import CACHE_VARIABLE
from cellular_bench.datasets.sources.cache import (
    Wanted,
    address_problem,
    difference,
    file_name,
    file_sha256,
    is_cached,
    note_of,
    place,
    read_note,
)

#: Seconds without a byte after which a connection is closed.
TIMEOUT_S = 60.0
#: Seconds in which a connection must bring ``PROGRESS_BYTES`` or the rest, else it is closed.
SLOW_S = 600.0
#: Largest file without a declared size, and largest listing of a deposit.
MAX_BYTES = 64 * 1024**3
MAX_LISTING_BYTES = 16 * 1024**2
#: Bytes that a connection must transfer so that it does not count as a failure.
PROGRESS_BYTES = 1 << 20
#: Consecutive failed connections before an address is abandoned; each resumes where the last one ended.
ATTEMPTS = 5
#: Seconds before the second connection; doubled for each further one.
PAUSE_S = 1.0
BLOCK_BYTES = 1 << 18
#: Status codes after which a retry is useful: too many requests, or a problem of the server.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
RANGE_REFUSED = 416

#: Called with the number of bytes received and, if known, the total number of bytes.
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of downloads.

    Attributes
    ----------
    offline
        Use only files in the cache.
    allow_unverified
        Accept files without a known checksum.
    timeout_s
        Seconds without a byte after which a connection is closed.
    slow_s
        Seconds in which a connection must bring ``PROGRESS_BYTES`` or the rest.
    attempts
        Consecutive failed connections before an address is abandoned.
    pause_s
        Seconds before the second connection; doubled for each further one.
    progress
        Called after every block.
    """

    offline: bool = False
    allow_unverified: bool = False
    timeout_s: float = TIMEOUT_S
    slow_s: float = SLOW_S
    attempts: int = ATTEMPTS
    pause_s: float = PAUSE_S
    progress: Progress | None = field(default=None, compare=False)


def fetch(
    url: str | Sequence[str],
    *,
    sha256: str | None,
    dataset_id: str,
    options: Options | None = None,
) -> Path:
    """Return the path of a file with a checksum, and download it if necessary; see :func:`obtain`."""
    urls = (url,) if isinstance(url, str) else tuple(url)
    wanted = Wanted(urls=urls, name=file_name(urls[0]), sha256=sha256)
    return obtain(wanted, dataset_id=dataset_id, options=options)


def obtain(wanted: Wanted, *, dataset_id: str, options: Options | None = None) -> Path:
    """Return the path of a file, from the cache or from the first address that provides it.

    A file in the cache is checked again and used without network access. An interrupted download is kept as
    ``NAME.part`` and resumed by the next one; the file appears under its name only after it is complete and
    checked.

    Raises
    ------
    DataError
        If no address provides the file, it has another checksum or size, no checksum is known and
        ``allow_unverified`` is not set, it is larger than declared or than ``MAX_BYTES``, a server redirects
        to another kind of address, or ``offline`` is set and the file is not in the cache.
    """
    options = options or Options()
    target = place(wanted)
    if is_cached(wanted):
        return target
    _check_request(wanted, target, options, dataset_id)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(target):
        # Another process may have downloaded it while this one waited.
        if not is_cached(wanted):
            _from_any(wanted, target, options, dataset_id)
    return target


def _check_request(wanted: Wanted, target: Path, options: Options, dataset_id: str) -> None:
    if not wanted.urls:
        raise DataError(dataset_id, [f"There is no address for {wanted.name}."])
    for url in wanted.urls:
        problem = address_problem(url)
        if problem:
            raise DataError(dataset_id, [f"Cannot download {url}: {problem}."])
    if options.offline:
        problem = f"{wanted.name} is not in the cache ({target.parent}), and --offline forbids downloads."
        raise DataError(dataset_id, [problem])
    if not (wanted.is_verified or options.allow_unverified):
        problem = (
            f"No checksum is known for {wanted.name}, so its content cannot be verified. Look at "
            f"{wanted.urls[0]} and, if you trust it, fetch it with --allow-unverified."
        )
        raise DataError(dataset_id, [problem])


@contextlib.contextmanager
def _only_one(target: Path) -> Iterator[None]:
    """Let one process at a time download this file; the others wait until it is done."""
    if sys.platform == "win32":  # no flock: two downloads at once would cost time, not correctness
        yield
        return
    import fcntl

    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _from_any(wanted: Wanted, target: Path, options: Options, dataset_id: str) -> None:
    problems = []
    for url in wanted.urls:
        part = target.with_name(f"{target.name}.part")
        try:
            _download(url, part, wanted, options)
        except _FailedError as failure:
            problems.append(str(failure))
            continue
        problem = difference(part, wanted)
        if not problem:
            _keep(part, target, wanted)
            return
        # With another content, the part cannot be resumed.
        _discard(part)
        problems.append(f"The file at {url} has changed: {problem}.")
    raise DataError(dataset_id, problems)


def _keep(part: Path, target: Path, wanted: Wanted) -> None:
    if not wanted.is_verified:
        note_of(target).write_text(file_sha256(part), encoding="ascii")
    part.replace(target)
    _discard(part)


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state(part).unlink(missing_ok=True)


def _state(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


class _FailedError(Exception):
    """An address that did not provide the whole file."""


class _BrokenOffError(Exception):
    """A connection that ended too early and is worth a retry."""


def _download(url: str, part: Path, wanted: Wanted, options: Options) -> None:
    reason, failures = "", 0
    while failures < options.attempts:
        before = _size(part)
        try:
            _connect(url, part, wanted, options)
        except _BrokenOffError as broken:
            reason = str(broken)
        else:
            return
        # A connection that made progress is not a failure: downloads of large files are interrupted many
        # times.
        failures = 0 if _size(part) >= before + PROGRESS_BYTES else failures + 1
        if failures < options.attempts:
            time.sleep(options.pause_s * 2 ** max(failures - 1, 0))
    kept = _size(part)
    more = f" {kept} bytes are kept, and the next call resumes there." if kept else ""
    raise _FailedError(
        f"Cannot download {url}: {reason}, {failures} times. "
        f"Check the connection, or load the file by its path.{more}"
    )


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _connect(url: str, part: Path, wanted: Wanted, options: Options) -> None:
    from http.client import HTTPException
    from ssl import SSLError

    headers = _resume_headers(url, part, wanted)
    try:
        with ask(url, headers, timeout_s=options.timeout_s) as answer:
            _receive(answer, url, part, wanted, options)
    except HTTPError as error:
        _judge(error, url, part)
    except TimeoutError as error:
        raise _BrokenOffError(f"no byte arrived for {options.timeout_s:g} s") from error
    except URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _BrokenOffError(f"no answer arrived for {options.timeout_s:g} s") from error
        raise _BrokenOffError(str(error.reason)) from error
    except (HTTPException, ConnectionError, SSLError, UnicodeError) as error:
        raise _BrokenOffError(str(error) or type(error).__name__) from error


class Redirects(request.HTTPRedirectHandler):
    """Follows redirects to http and https alone, and from https only to https."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the next request, or raise :class:`urllib.error.HTTPError`."""
        problem = address_problem(newurl)
        if not problem and req.type == "https" and not newurl.lower().startswith("https:"):
            problem = "from https, only https is followed"
        if problem:
            raise HTTPError(req.full_url, code, f"redirected to {newurl!r}: {problem}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def ask(url: str, headers: Mapping[str, str], *, timeout_s: float) -> Any:
    """Request an address of the web.

    Returns
    -------
    The answer, as of ``urllib.request.urlopen``.

    Raises
    ------
    OSError, http.client.HTTPException
        If there is no answer, or it is an error.
    """
    opener = request.OpenerDirector()  # the usual one would also open files and ftp
    for handler in (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPErrorProcessor,
        Redirects,
    ):
        opener.add_handler(handler())
    # Only the schemes that were checked have a handler.
    return opener.open(request.Request(url, headers=dict(headers)), timeout=timeout_s)  # noqa: S310


def _resume_headers(url: str, part: Path, wanted: Wanted) -> dict[str, str]:
    """Return the headers that request the rest of a file, provided that the file is the same."""
    size = _size(part)
    state = read_note(_state(part))
    validator = state.get("validator") if state.get("url") == url else None
    # Without a validator, only a checksum can show that two parts belong together.
    if not size or not (validator or wanted.is_verified):
        _discard(part)
        return {}
    return {"Range": f"bytes={size}-"} | ({"If-Range": validator} if validator else {})


def _receive(answer: Any, url: str, part: Path, wanted: Wanted, options: Options) -> None:
    goes_on = answer.status == 206 and _starts_at(answer) == _size(part)
    if answer.status == 206 and not goes_on:
        _discard(part)
        raise _BrokenOffError("the server sent another part of the file than the requested one")
    _remember_validator(answer, url, part)
    length = str(answer.headers.get("Content-Length", ""))
    done = _size(part) if goes_on else 0
    total = done + int(length[:20]) if length.isdecimal() else wanted.size
    most = MAX_BYTES if wanted.size is None else wanted.size
    _check_size(part, total or 0, most, url)
    _check_room(part, total, done)
    with part.open("ab" if goes_on else "wb") as file:
        since, before = time.monotonic(), done
        while block := answer.read1(BLOCK_BYTES):
            _check_size(part, done + len(block), most, url)
            done += file.write(block)
            if options.progress:
                options.progress(done, total)
            if done >= before + PROGRESS_BYTES:
                since, before = time.monotonic(), done
            elif time.monotonic() > since + options.slow_s:
                raise _BrokenOffError(f"less than {PROGRESS_BYTES} bytes arrived in {options.slow_s:g} s")
    if total is not None and done < total:
        raise _BrokenOffError(f"the connection ended after {done} of {total} bytes")


def _check_size(part: Path, size: int, most: int, url: str) -> None:
    if size > most:
        _discard(part)
        raise _FailedError(f"Cannot download {url}: it has more than {most} bytes. Nothing of it is kept.")


def _starts_at(answer: Any) -> int:
    span = str(answer.headers.get("Content-Range", "")).removeprefix("bytes ").partition("-")[0]
    return int(span) if span.isdigit() else -1


def _remember_validator(answer: Any, url: str, part: Path) -> None:
    tag = answer.headers.get("ETag") or ""
    # A weak tag identifies the meaning of a file, not its bytes.
    validator = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")
    _state(part).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _check_room(part: Path, total: int | None, done: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - done > free:
        raise _FailedError(
            f"There is no room for it: {total - done} bytes are missing and {free} are free in "
            f"{part.parent}. Name a folder on another disk with {CACHE_VARIABLE}."
        )


def _judge(error: HTTPError, url: str, part: Path) -> None:
    if error.code == RANGE_REFUSED:
        _discard(part)
        raise _BrokenOffError("the server cannot resume where the last download ended") from error
    if error.code in TRANSIENT:
        raise _BrokenOffError(f"{error.code} {error.reason}") from error
    raise _FailedError(
        f"Cannot download {url}: {error.reason} ({error.code}). "
        "Check the connection, or load the file by its path."
    ) from error
