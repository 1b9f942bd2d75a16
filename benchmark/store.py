"""The result folder: one folder per run, and the facts that scoring and reports need.

::

    OUT/
      suite.json                 the suite as it was run
      run-record.schema.json     JSON Schema of the records
      runs/RUN_ID/record.json    one record per run; its presence means that the run is done
      runs/RUN_ID/outputs.npz    embedding or predictions
      runs/RUN_ID/log.txt        what the method printed
      runs/RUN_ID/artifacts/     what the method itself keeps, such as history.json
      splits/DATASET/SPLIT/      cells.npz (what a method may use) and truth.npz (what it may not)
      data/DATASET.h5ad          prepared data; may be deleted when the runs are done
"""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cellular_bench.benchmark.config import Suite
from cellular_bench.benchmark.errors import UserError
from cellular_bench.benchmark.records import (
    DatasetIdentity,
    RunRecord,
    SplitIdentity,
    json_schema,
    read_record,
    write_record,
    write_text_atomically,
)

#: File systems allow 255 bytes for a name; the rest of it needs its share.
MAX_NAME_BYTES = 100


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
        if root.is_dir() and any(root.iterdir()) and not (root / "suite.json").exists():
            raise UserError(f"{root} is not empty and not a result folder. Choose another with --out.")
        try:
            (root / "runs").mkdir(parents=True, exist_ok=True)
            write_text_atomically(root / "suite.json", suite.model_dump_json(indent=1) + "\n")
            write_text_atomically(root / "run-record.schema.json", json_schema())
        except OSError as error:
            raise UserError(f"{root} cannot be written: {error.strerror}.") from error
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
        path = self.root / "suite.json"
        return Suite.model_validate_json(path.read_bytes()).title if path.exists() else self.root.name

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of a run."""
        return self.root / "runs" / run_id

    def data_file(self, dataset: DatasetIdentity) -> Path:
        """Return the file of the prepared data."""
        return self.root / "data" / f"{_name(dataset)}.h5ad"

    def split_folder(self, dataset: DatasetIdentity, split: SplitIdentity) -> Path:
        """Return the folder with the cells and the truth of a split."""
        return self.root / "splits" / _name(dataset) / f"{fitting(split.split_id)}-{split.digest[:10]}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second benchmark out of the folder: each would delete what the other writes.

        The lock ends with the process, however that ends.

        Raises
        ------
        UserError
            If another process holds it.
        """
        with (self.root / ".lock").open("w") as file:
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

    def record(self, run_id: str) -> RunRecord | None:
        """Return the record of a run; None where it is missing or half written."""
        path = self.run_folder(run_id) / "record.json"
        if not path.exists():
            return None
        try:
            return read_record(path)
        except UserError:
            return None  # the run is done again, which replaces the damaged record

    def records(self) -> Iterator[RunRecord]:
        """Yield every record, in the order of the run names.

        Raises
        ------
        UserError
            If a record is damaged.
        """
        for path in sorted((self.root / "runs").glob("*/record.json")):
            yield read_record(path)

    def write(self, record: RunRecord) -> None:
        """Write a record, which marks its run as done."""
        folder = self.run_folder(record.run_id)
        folder.mkdir(parents=True, exist_ok=True)
        write_record(record, folder / "record.json")


def fitting(name: str) -> str:
    """Cut a name that would make the name of a file too long; a digest beside it tells such names apart.

    Examples
    --------
    >>> fitting("lobo.human1"), len(fitting("x" * 300))
    ('lobo.human1', 100)
    """
    return name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")


def _name(dataset: DatasetIdentity) -> str:
    return f"{dataset.dataset_id}-{dataset.digest[:10]}"
