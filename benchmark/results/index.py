"""What a hundred thousand records come to, without reading each: one line per run in one file.

``index.jsonl`` holds what listing, filtering and averaging need of every record, with the time and size of
the record's file when the line was written. A line whose record has changed since is made anew from it;
the file may be deleted at any time. Only the benchmark that holds the folder writes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cellular_bench.benchmark.results.store import RECORD, Damaged, Store
from cellular_bench.benchmark.schema.records import RunRecord, Status, read_record
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import write_text_atomically

INDEX = "index.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A record without what only its own page shows.

    Attributes
    ----------
    seconds
        From the run's beginning to its record, preparation and scoring included.
    n_bytes
        Size of the kept outputs; None where there are none.
    values
        Value of every metric that has one.
    """

    run_id: str
    task: str
    method_id: str
    dataset_id: str
    split_id: str
    seed: int
    status: Status
    reason: str | None
    seconds: float
    wall_time_s: float | None
    n_bytes: int | None
    values: dict[str, float] = field(default_factory=dict)


_Stamp = tuple[int, int]


def summarise(record: RunRecord) -> RunSummary:
    """Return the summary of a record."""
    return RunSummary(
        run_id=record.run_id,
        task=record.task,
        method_id=record.method.method_id,
        dataset_id=record.dataset.dataset_id,
        split_id=record.split.split_id,
        seed=record.seed,
        status=record.status,
        reason=record.reason,
        seconds=(record.finished_at - record.started_at).total_seconds(),
        wall_time_s=record.cost.wall_time_s if record.cost else None,
        n_bytes=record.outputs.n_bytes if record.outputs else None,
        values={score.metric_id: score.value for score in record.scores if score.value is not None},
    )


def read(store: Store, *, keep: bool = False) -> tuple[list[RunSummary], list[Damaged]]:
    """Return the summaries of a folder's records, and the records that cannot be read.

    Parameters
    ----------
    keep
        Write the index anew where it was out of date; for the holder of the folder's lock.
    """
    known = dict(_indexed(store.root / INDEX))
    found: list[tuple[_Stamp, RunSummary]] = []
    damaged: list[Damaged] = []
    n_new = 0
    for run_id, stamp in _stamps(store):
        line = known.get(run_id)
        if line is not None and line[0] == stamp:
            found.append(line)
            continue
        n_new += 1
        try:
            record = read_record(store.run_folder(run_id) / RECORD)
            found.append((stamp, summarise(record)))
        except UserError as error:
            damaged.append(Damaged(run_id=run_id, reason=str(error)))
    if keep and (n_new or len(known) != len(found)):
        lines = (_line(stamp, summary) for stamp, summary in found)
        write_text_atomically(store.root / INDEX, "".join(lines))
    return [summary for _, summary in found], damaged


def append(store: Store, record: RunRecord) -> None:
    """Add the line of a record that has just been written."""
    stamp = _stamp(store.run_folder(record.run_id) / RECORD)
    if stamp is not None:
        with (store.root / INDEX).open("a", encoding="utf-8") as file:
            file.write(_line(stamp, summarise(record)))


def _line(stamp: _Stamp, summary: RunSummary) -> str:
    return json.dumps([stamp, asdict(summary)], separators=(",", ":")) + "\n"


def _indexed(path: Path) -> Iterator[tuple[str, tuple[_Stamp, RunSummary]]]:
    """Yield what the lines hold, the later of two last; a line that was cut short is passed over."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                stamp, fields = json.loads(line)
                yield fields["run_id"], ((stamp[0], stamp[1]), RunSummary(**fields))
            except (ValueError, TypeError, KeyError):
                continue


def _stamps(store: Store) -> Iterable[tuple[str, _Stamp]]:
    folder = str(store.root / "runs")
    for run_id in sorted(os.listdir(folder)):  # noqa: PTH208  (a Path for each would take as long as all the rest)
        stamp = _stamp(f"{folder}/{run_id}/{RECORD}")
        if stamp is not None:
            yield run_id, stamp


def _stamp(path: Any) -> _Stamp | None:
    try:
        seen = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_size
