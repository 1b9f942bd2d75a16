"""The result folder: the name of every file in it, one folder per run, and the records.

::

    OUT/
      suite.json                 the suite as it was run
      plan.json                  the runs that it asked for; see `run-benchmark status`
      index.jsonl                a line per record, for quick looks; may be deleted
      run-record.schema.json     JSON Schema of the records
      live.html                  progress, while `run-benchmark report --watch` writes it
      runs/RUN_ID/record.json    one record per run; its presence means that the run is done
      runs/RUN_ID/outputs.npz    embedding or predictions
      runs/RUN_ID/log.txt        what the method printed
      runs/RUN_ID/running.json   where and since when it runs; gone when it has ended
      runs/RUN_ID/result.json    how the method ended, and scores.json; gone when the run has ended
      runs/RUN_ID/artifacts/     what the method itself keeps, such as history.json
      splits/DATASET/SPLIT/      cells.npz (what a method may use), truth.npz (what it may not) and
                                 inputs of metrics of some tasks, such as all_genes.npz
      data/DATASET.h5ad          prepared data; may be deleted when the runs are done
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cellular_bench.benchmark.schema.record_files import (
    NewerRecordError,
    json_schema,
    read_record,
    sharing,
    write_record,
)
from cellular_bench.benchmark.schema.records import DatasetIdentity, OutputFile, RunRecord, SplitIdentity
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import truncated, write_text_atomically

# In the result folder.
SUITE: Final = "suite.json"
PLAN: Final = "plan.json"
INDEX: Final = "index.jsonl"
SCHEMA: Final = "run-record.schema.json"
LIVE_PAGE: Final = "live.html"
# In the folder of a run.
RECORD: Final = "record.json"
OUTPUTS: Final = "outputs.npz"
RUN_LOG: Final = "log.txt"
RUNNING: Final = "running.json"
RESULT: Final = "result.json"
SCORED: Final = "scores.json"
#: Folder within that of the run for what a method itself keeps, and the file there with its training.
ARTIFACTS: Final = "artifacts"
HISTORY: Final = "history.json"
# In the folder of a split; the last is there only while the split is prepared.
CELLS: Final = "cells.npz"
TRUTH: Final = "truth.npz"
SPLIT: Final = "split.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A run whose record cannot be read; it is done again by the next benchmark of the folder."""

    run_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Store:
    """Paths and records of one result folder."""

    root: Path

    @classmethod
    def create(cls, root: Path, suite: Suite) -> Store:
        """Make the folder where it is missing, and write down what is being run.

        Raises
        ------
        UserError
            If the folder cannot be written, or is something else than a result folder.
        """
        store = cls.claim(root)
        with _disk_errors(root), store.locked():
            write_text_atomically(root / SUITE, suite.model_dump_json(indent=1) + "\n")
            write_text_atomically(root / SCHEMA, json_schema())
        return store

    @classmethod
    def claim(cls, root: Path) -> Store:
        """Make the folder where it is missing; nothing is said yet of what will be run.

        Raises
        ------
        UserError
            If the folder cannot be written, or is something else than a result folder.
        """
        if root.is_dir() and not (root / "runs").is_dir() and any(root.iterdir()):
            raise UserError(f"{root} is not empty and not a result folder. Choose another with --out.")
        with _disk_errors(root):
            (root / "runs").mkdir(parents=True, exist_ok=True)
        return cls(root.resolve())

    @classmethod
    def open(cls, root: Path) -> Store:
        """Open an existing result folder.

        Raises
        ------
        UserError
            If there is none.
        """
        if not (root / "runs").is_dir():
            raise UserError(f"{root} is not a result folder: it has no folder 'runs'.")
        return cls(root.resolve())

    @property
    def title(self) -> str:
        """The title of the suite that was run."""
        suite = self.suite
        return suite.title if suite else self.root.name

    @property
    def suite(self) -> Suite | None:
        """The suite that was run; None where that was not written down."""
        path = self.root / SUITE
        return Suite.model_validate_json(path.read_bytes()) if path.exists() else None

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of a run."""
        return self.root / "runs" / run_id

    def data_file(self, dataset: DatasetIdentity) -> Path:
        """Return the file of the prepared data."""
        return self.root / "data" / f"{dataset.version_id}.h5ad"

    def split_folder(self, dataset: DatasetIdentity, split: SplitIdentity) -> Path:
        """Return the folder with the cells and the truth of a split."""
        return self.root / "splits" / dataset.version_id / f"{truncated(split.split_id)}-{split.digest[:10]}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second benchmark out of the folder: each would delete what the other writes.

        The lock ends with the process, however that ends.

        Raises
        ------
        UserError
            If another process holds it.
        """
        with self._lock_file.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"Another run-benchmark is writing to {self.root}. Wait for its end, or choose another "
                    "folder with --out."
                ) from error
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                    raise
                # A file system without locks: a second run goes unnoticed there, but one can work.
            yield

    @property
    def is_locked(self) -> bool:
        """Whether a benchmark is writing to the folder; asking changes nothing in it."""
        if not self._lock_file.exists():
            return False
        with self._lock_file.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    @property
    def _lock_file(self) -> Path:
        return self.root / ".lock"

    def record(self, run_id: str) -> RunRecord | None:
        """Return the record of a run; None where it is missing or half written."""
        exists = (self.run_folder(run_id) / RECORD).exists()
        found = self.read(run_id) if exists else None
        return found if isinstance(found, RunRecord) else None  # a damaged record is replaced by the next run

    def records(self) -> Iterator[RunRecord]:
        """Yield every record that can be read, in the order of the run names; see :meth:`damaged`.

        Those of leak canaries, which are no results, are in :meth:`every_record` alone.
        """
        return (record for record in self.every_record() if not record.is_canary)

    def every_record(self) -> Iterator[RunRecord]:
        """Yield every record that can be read, those of leak canaries too."""
        return sharing(record for record in self._read() if isinstance(record, RunRecord))

    def damaged(self) -> list[Damaged]:
        """Return the runs whose records cannot be read."""
        return [record for record in self._read() if isinstance(record, Damaged)]

    def _read(self) -> Iterator[RunRecord | Damaged]:
        for path in sorted((self.root / "runs").glob(f"*/{RECORD}")):
            yield self.read(path.parent.name)

    def read(self, run_id: str) -> RunRecord | Damaged:
        """Read the record of a run.

        Raises
        ------
        NewerRecordError
            If a later version of this program wrote it: it is not damaged, and must not be replaced.
        """
        try:
            return read_record(self.run_folder(run_id) / RECORD)
        except NewerRecordError:
            raise
        except UserError as error:
            return Damaged(run_id=run_id, reason=str(error))

    def write(self, record: RunRecord) -> None:
        """Write a record, which marks its run as done."""
        folder = self.run_folder(record.run_id)
        folder.mkdir(parents=True, exist_ok=True)
        write_record(record, folder / RECORD)

    def forget(self, run_ids: Iterable[str]) -> None:
        """Delete the records of runs with all that was kept of them."""
        for run_id in run_ids:
            folder = self.run_folder(run_id)
            (folder / RECORD).unlink(missing_ok=True)  # first: what is left without it is not a result
            if folder.exists():
                shutil.rmtree(folder)


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{root} cannot be written: {error.strerror}.") from error


def describe_outputs(path: Path) -> OutputFile:
    """Return size and digest of an output file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return OutputFile(n_bytes=path.stat().st_size, sha256=digest)
