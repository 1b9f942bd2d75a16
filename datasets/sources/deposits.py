"""Files of public deposits: their addresses, their state in the cache, and how to get them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from cellular_bench.core.errors import DataError
from cellular_bench.core.files import cache_dir
from cellular_bench.datasets.sources import archives, cache, download, wheels
from cellular_bench.datasets.sources.cache import Wanted
from cellular_bench.datasets.sources.download import Options

#: ``ships``: with this package or another one. ``cached``: fetched. ``missing``: to be fetched.
#: ``deposited``: the address is in the listing of the deposit, which was not requested yet.
#: ``own``: not available for download; the user provides it in a folder.
State = Literal["ships", "cached", "missing", "deposited", "own"]


def files_of(
    dataset_id: str, source: Mapping[str, Any], *, options: Options | None = None
) -> dict[str, Path]:
    """Return the paths of all files of a deposit by name, fetched and, if the manifest says so, unpacked.

    Raises
    ------
    DataError
        If a file cannot be fetched or is not the expected one.
    """
    options = options or Options()
    files = {}
    for entry in source["files"]:
        wanted = _wanted(dataset_id, entry, options)
        path = download.obtain(wanted, dataset_id=dataset_id, options=options)
        name = str(entry["name"])
        if entry.get("unpack"):
            path = _unpacked(path)
            # "unpack" can name the part of the archive, which becomes part of the name.
            name = f"{name}.{entry['unpack']}" if isinstance(entry["unpack"], str) else name
        files[name] = path
    return files


def state(source: Mapping[str, Any]) -> State:
    """Return the state of a data set, without network access and without reading large files."""
    kind = source.get("kind")
    if kind == "carrier":
        return "cached" if all(wheels.place(wheel).is_file() for wheel in source["wheels"]) else "missing"
    if kind == "url":
        wanted = Wanted(urls=(source["url"],), name=cache.file_name(source["url"]), sha256=source["sha256"])
        return "cached" if cache.place(wanted).is_file() else "missing"
    if kind == "data_dir":
        return "own"
    if kind != "download":
        return "ships"
    known = [_known(entry) for entry in source["files"]]
    places = [cache.place(wanted).is_file() for wanted in known if wanted]
    if len(places) < len(known):
        return "deposited"
    return "cached" if all(places) else "missing"


def is_verified(source: Mapping[str, Any]) -> bool:
    """Return whether the checksums of the manifest were computed from the files by this project."""
    return bool(source.get("verified", source.get("kind") != "download"))


def _wanted(dataset_id: str, entry: Mapping[str, Any], options: Options) -> Wanted:
    known = _known(entry)
    if known:
        return known
    if options.offline:
        problem = f"{entry['name']} was never looked up at {entry['listing']}, and --offline forbids it."
        raise DataError(dataset_id, [problem])
    answer = _ask(entry["listing"], dataset_id=dataset_id, options=options)
    _remembered(entry).parent.mkdir(parents=True, exist_ok=True)
    _remembered(entry).write_text(json.dumps(_from_listing(answer, entry, dataset_id)), encoding="utf-8")
    wanted = _known(entry)
    assert wanted is not None  # it was stored just now
    return wanted


def _known(entry: Mapping[str, Any]) -> Wanted | None:
    """Describe a file by its manifest, or by a stored listing; None if it was not requested yet."""
    known = dict(entry)
    if "urls" not in entry:
        listed = cache.read_note(_remembered(entry))
        if not listed:
            return None
        known |= listed
    return Wanted(
        urls=tuple(known["urls"]),
        name=str(known["name"]),
        sha256=known.get("sha256"),
        md5=known.get("md5"),
        size=known.get("size"),
    )


def _remembered(entry: Mapping[str, Any]) -> Path:
    key = hashlib.sha256(f"{entry['listing']} {entry['name']}".encode()).hexdigest()
    return cache_dir() / "listings" / f"{key[:16]}.json"


def _ask(url: str, *, dataset_id: str, options: Options) -> Any:
    """Request the description of a deposit, in the format of Zenodo's API."""
    from http.client import HTTPException

    problem = cache.address_problem(url)
    if problem:
        raise DataError(dataset_id, [f"Cannot ask {url}: {problem}."])
    try:
        with download.ask(url, {"Accept": "application/json"}, timeout_s=options.timeout_s) as answer:
            content = answer.read(download.MAX_LISTING_BYTES + 1)
        if len(content) > download.MAX_LISTING_BYTES:
            raise ValueError(f"it has more than {download.MAX_LISTING_BYTES} bytes")
        return json.loads(content)
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        problem = f"Cannot ask {url} for its files: {error}. Check the connection."
        raise DataError(dataset_id, [problem]) from error


def _from_listing(answer: Any, entry: Mapping[str, Any], dataset_id: str) -> dict[str, Any]:
    try:
        files = {str(file["key"]): file for file in answer["files"]}
    except (KeyError, TypeError) as error:
        raise _unknown_form(entry, dataset_id, error) from error
    if entry["name"] not in files:
        held = ", ".join(sorted(files)) or "nothing"
        problem = f"The deposit {entry['listing']} holds {held}, and not {entry['name']}."
        raise DataError(dataset_id, [problem])
    try:
        file = files[entry["name"]]
        kind, _, checksum = str(file["checksum"]).partition(":")
        listed: dict[str, Any] = {"urls": [str(file["links"]["self"])], "size": int(file["size"])}
        listed |= {kind: checksum} if kind in ("md5", "sha256") else {}
        Wanted(**{**listed, "name": entry["name"]})  # checks them
    except (KeyError, TypeError, ValueError, OverflowError, DataError) as error:
        raise _unknown_form(entry, dataset_id, error) from error
    return listed


def _unknown_form(entry: Mapping[str, Any], dataset_id: str, error: Exception) -> DataError:
    problem = f"The deposit {entry['listing']} describes its files in a form that is not known: {error!r}."
    return DataError(dataset_id, [problem])


def _unpacked(path: Path) -> Path:
    target = path.with_name(f"{path.name}.unpacked")
    archives.unpack(path, target)
    return target
