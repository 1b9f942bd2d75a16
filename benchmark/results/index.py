"""The index of a result folder: one JSON line per run, for listing, filtering and averaging many records.

``index.jsonl`` holds a summary of every record, with the time and size of the record's file when the line
was written. A line whose record has changed since is replaced; the file may be deleted at any time. Only the
benchmark that holds the folder writes it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import AliasChoices, AliasPath, ConfigDict, Field, TypeAdapter, ValidationError

from cellular_bench.benchmark.results.store import INDEX, RECORD, Damaged, Store
from cellular_bench.benchmark.schema.records import Model, RunRecord, Status
from cellular_bench.core.files import append_text, open_regular, write_text_atomically

#: The most bytes of a line; longer ones are no lines of ours.
MOST_LINE_BYTES: Final = 2**20


def _at(*path: str, default: Any = ...) -> Any:
    return Field(default, validation_alias=AliasChoices(path[-1], AliasPath(*path)))


class RunName(Model):
    """Which run it is, taken from a run or its record."""

    model_config = ConfigDict(from_attributes=True, extra="ignore")

    run_id: str
    task: str
    method_id: str = _at("method", "method_id")


class RunSummary(RunName):
    """A record without what only its own page shows.

    Attributes
    ----------
    seconds
        From the run's beginning to its record, preparation and scoring included.
    n_bytes
        Size of the kept outputs; None where there are none.
    values
        Value of every metric that has one.
    is_canary
        True for a run of a leak canary.
    """

    dataset_id: str = _at("dataset", "dataset_id")
    split_id: str = _at("split", "split_id")
    seed: int
    status: Status
    reason: str | None
    seconds: float
    wall_time_s: float | None = _at("cost", "wall_time_s", default=None)
    n_bytes: int | None = _at("outputs", "n_bytes", default=None)
    values: dict[str, float] = Field(default_factory=dict)
    is_canary: bool = False


#: Time and size of a record's file.
_Stamp = tuple[int, int]
_Line = tuple[_Stamp, RunSummary]
_LINES = TypeAdapter(_Line)


def read(store: Store, *, keep: bool = False) -> tuple[list[RunSummary], list[Damaged]]:
    """Return the summaries of a folder's records, and the records that cannot be read.

    Parameters
    ----------
    keep
        Replace the index if it was out of date; for the holder of the folder's lock.
    """
    known = dict(_indexed(store.root / INDEX))
    found: list[_Line] = []
    damaged: list[Damaged] = []
    n_new = 0
    for run_id, stamp in _stamps(store):
        if stamp is not None and run_id in known and known[run_id][0] == stamp:
            found.append(known[run_id])
            continue
        n_new += 1
        record = store.read(run_id)
        if isinstance(record, Damaged):
            damaged.append(record)
        elif stamp is not None:
            found.append((stamp, RunSummary.model_validate(record)))
    if keep and (n_new or len(known) != len(found)):
        write_text_atomically(store.root / INDEX, "".join(map(_text, found)))
    return [summary for _, summary in found], damaged


def append(store: Store, record: RunRecord) -> None:
    """Add the line of a record that has just been written."""
    stamp = _stamp(store.run_folder(record.run_id) / RECORD)
    if stamp is not None:
        append_text(store.root / INDEX, _text((stamp, RunSummary.model_validate(record))))


def _text(line: _Line) -> str:
    return _LINES.dump_json(line).decode() + "\n"


def _indexed(path: Path) -> Iterator[tuple[str, _Line]]:
    """Yield what the lines hold, the later of two last; a line that was cut short is passed over."""
    try:
        file = open_regular(path)
    except OSError:
        return
    with file:
        while line := file.readline(MOST_LINE_BYTES):
            try:
                stamp, summary = _LINES.validate_json(line)
                yield summary.run_id, (stamp, summary)
            except ValidationError:
                continue


def _stamps(store: Store) -> Iterator[tuple[str, _Stamp | None]]:
    folder = str(store.root / "runs")
    for run_id in store.run_ids():
        yield run_id, _stamp(f"{folder}/{run_id}/{RECORD}")


def _stamp(path: Any) -> _Stamp | None:
    """Return time and size of a file; None if there is something else, or a link to its folder."""
    try:
        seen = os.stat(path, follow_symlinks=False)  # noqa: PTH116  (a Path for each would take far longer)
    except OSError:
        return None
    return (seen.st_mtime_ns, seen.st_size) if stat.S_ISREG(seen.st_mode) else None
