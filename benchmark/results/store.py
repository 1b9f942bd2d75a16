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
      runs/RUN_ID/artifacts/     what the method itself keeps, such as history.json
      splits/DATASET/SPLIT/      cells.npz (what a method may use), truth.npz (what it may not) and
                                 inputs of metrics of some tasks, such as all_genes.npz
      data/DATASET.h5ad          prepared data; may be deleted when the runs are done
      views/                     what methods may see of the splits; gone when the benchmark has ended
      working/                   where methods write while they run
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cellular_bench.benchmark.schema.record_files import (
    MOST_RECORD_BYTES,
    NewerVersionError,
    check_version,
    json_schema,
    read_model,
    read_record,
    sharing,
    write_record,
)
from cellular_bench.benchmark.schema.records import (
    SCHEMA_VERSION,
    DatasetIdentity,
    OutputFile,
    RunRecord,
    SplitIdentity,
)
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import (
    NO_LOCKS,
    below,
    discard,
    folder_below,
    open_regular,
    read_regular,
    regular_below,
    write_text_atomically,
)
from cellular_bench.core.json_files import parse_json, read_json
from cellular_bench.core.types import Features, Preprocessing

# In the result folder.
SUITE: Final = "suite.json"
PLAN: Final = "plan.json"
INDEX: Final = "index.jsonl"
SCHEMA: Final = "run-record.schema.json"
LIVE_PAGE: Final = "live.html"
# In the folder of a run.
RECORD: Final = "record.json"
OUTPUTS: Final = "outputs.npz"
#: What a method gave in the second of two calls; in its working folder only.
SECOND_OUTPUTS: Final = "second_outputs.npz"
RUN_LOG: Final = "log.txt"
RUNNING: Final = "running.json"
RESULT: Final = "result.json"
#: Folder within that of the run for what a method itself keeps, and the file there with its training.
ARTIFACTS: Final = "artifacts"
HISTORY: Final = "history.json"
# In the folder of a split: SPLIT only while it is prepared, ORDER is that of scored cells in their views.
CELLS: Final = "cells.npz"
TRUTH: Final = "truth.npz"
SPLIT: Final = "split.npz"
ORDER: Final = "order.npz"


#: Where a file says its version; within text, quotes are written otherwise.
_VERSION: Final = re.compile(rb'"schema_version"\s*:\s*(\d{1,9})')
#: How the lock is opened: no link is followed, and a pipe is not waited for.
_AS_IT_IS: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: The most bytes of a suite with its data, of a plan (a million runs), and of the mark of a run.
MOST_SUITE_BYTES: Final = 2**24
MOST_PLAN_BYTES: Final = 2**28
MOST_MARK_BYTES: Final = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A run whose record cannot be read; it is done again by the next benchmark of the folder."""

    run_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Store:
    """Paths and records of one result folder.

    Somebody else may have written it. ``root`` may be a symbolic link; below it, nothing may be one, and all
    names that records give are names of files. Every path of the folder is made here.
    """

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
            If the folder cannot be written, is something else than a result folder, or holds what a later
            version of this program wrote.
        """
        if root.is_dir() and not (root / "runs").is_dir() and any(root.iterdir()):
            raise UserError(f"{root} is not empty and not a result folder. Choose another with --out.")
        with _disk_errors(root):
            root.mkdir(parents=True, exist_ok=True)
            store = cls(root.resolve())
            folder_below(store.root, "runs")
        store.check_version()
        store.check_version_of_runs()
        return store

    @classmethod
    def open(cls, root: Path) -> Store:
        """Open an existing result folder.

        Raises
        ------
        UserError
            If there is none, or a later version of this program wrote it.
        """
        if not (root / "runs").is_dir():
            raise UserError(f"{root} is not a result folder: it has no folder 'runs'.")
        store = cls(root.resolve())
        below(store.root, "runs")
        store.check_version()
        return store

    def check_version(self) -> None:
        """Refuse a folder in which a later version of this program wrote something else than records.

        Whoever reads the records notices it of these.

        Raises
        ------
        NewerVersionError
            Which file it is; nothing in the folder was changed.
        """
        known = {SUITE: MOST_SUITE_BYTES, PLAN: MOST_PLAN_BYTES}
        for name, most_bytes in known.items():
            path = self.root / name
            if path.exists():
                _check_version_of(path, most_bytes)
        _check_version_of_index(self.root / INDEX)
        self._check_version_of(RUNNING, MOST_MARK_BYTES)

    def check_version_of_runs(self) -> None:
        """Refuse a folder with a record of a later version of this program, before anything is changed.

        This is quick: records are searched, not parsed.

        Raises
        ------
        NewerVersionError
            Which file it is; nothing in the folder was changed.
        """
        self._check_version_of(RECORD, MOST_RECORD_BYTES)

    def _check_version_of(self, name: str, most_bytes: int) -> None:
        """Look at the file of this name of every run."""
        with os.scandir(self.root / "runs") as entries:
            folders = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for path in (f"{folder}/{name}" for folder in folders):
            if os.path.lexists(path) and _seems_newer(Path(path), most_bytes):
                _check_version_of(Path(path), most_bytes)

    @property
    def title(self) -> str:
        """The title of the suite that was run."""
        suite = self.suite
        return suite.title if suite else self.root.name

    @property
    def suite(self) -> Suite | None:
        """The suite that was run; None where that was not written down.

        Raises
        ------
        UserError
            If the file does not hold a suite.
        """
        path = self.root / SUITE
        if not os.path.lexists(path):
            return None
        try:
            return read_model(path, Suite, what="suite", most_bytes=MOST_SUITE_BYTES)
        except NewerVersionError:
            raise
        except UserError as error:
            raise UserError(f"{error} The next run into the folder writes it again.") from error

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of a run.

        Raises
        ------
        UserError
            If the name is not that of a folder, or a symbolic link is in its place.
        """
        return below(self.root, "runs", run_id)

    def run_file(self, run_id: str, *names: str) -> Path:
        """Return a file of a run, which need not be there.

        Raises
        ------
        UserError
            As for :meth:`run_folder`, or if there is something else than a regular file.
        """
        return regular_below(self.root, "runs", run_id, *names)

    def clear_run(self, run_id: str) -> Path:
        """Return the folder of a run, made or emptied, for another try.

        The record of an earlier try stays, until the next replaces it, and so does what its method kept; but
        nothing there that is neither a file nor a folder.

        Raises
        ------
        UserError
            As for :meth:`run_folder`.
        OSError
            If something cannot be deleted.
        """
        folder = folder_below(self.root, "runs", run_id)
        for old in sorted(folder.iterdir()):
            is_kept = (old.name == RECORD and old.is_file()) or (old.name == ARTIFACTS and old.is_dir())
            if old.is_symlink() or not is_kept:
                discard(old)
        for at, folders, files in os.walk(folder / ARTIFACTS):
            for name in (*folders, *files):
                path = Path(at, name)
                if not stat.S_ISDIR(mode := path.lstat().st_mode) and not stat.S_ISREG(mode):
                    path.unlink()
        return folder

    def data_file(self, dataset: DatasetIdentity) -> Path:
        """Return the file of the prepared data, which need not be there.

        Raises
        ------
        UserError
            If its name is none of a file, or there is something else than a regular file.
        """
        return regular_below(self.root, "data", f"{dataset.version_id}.h5ad")

    def split_folder(self, dataset: DatasetIdentity, split: SplitIdentity) -> Path:
        """Return the folder with the cells and the truth of a split.

        Raises
        ------
        UserError
            If the name of the data or the split is none of a folder, or there is a symbolic link.
        """
        return below(self.root, "splits", dataset.version_id, split.folder_name)

    def views_folder(
        self,
        dataset: DatasetIdentity,
        split: SplitIdentity,
        features: Features,
        setting: Preprocessing | None = None,
    ) -> Path:
        """Return the folder of what methods may see of a split; its name says nothing of either."""
        name = hashlib.sha256(f"{dataset.digest} {split.digest}".encode()).hexdigest()[:16]
        return self.views / name / ("-".join([features, *setting.name.split()]) if setting else features)

    @property
    def views(self) -> Path:
        """Folder of all views."""
        return self.root / "views"

    def delete_views(self) -> None:
        """Delete all views, and the folder of running methods where it is empty."""
        discard(self.views)
        with suppress(OSError):  # what an interrupted run keeps there is for its next try
            (self.root / "working").rmdir()

    def working_folder(self, name: str) -> Path:
        """Return a folder in which a method writes while it runs, made where it is missing."""
        return folder_below(self.root, "working", name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second benchmark out of the folder: each would delete what the other writes.

        The lock ends with the process, however that ends.

        Raises
        ------
        UserError
            If another process holds it, or it is something else than a file.
        """
        try:
            descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | _AS_IT_IS, 0o666)
        except OSError as error:
            if error.errno in (errno.EROFS, errno.ENOSPC, errno.EDQUOT):
                raise UserError(f"{self.root} cannot be written: {error.strerror}.") from error
            raise self._no_lock(error.strerror) from error
        with os.fdopen(descriptor, "rb+", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise self._no_lock("it is no regular file")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"Another run-benchmark is writing to {self.root}. Wait for its end, or choose another "
                    "folder with --out."
                ) from error
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                # A file system without locks: a second run goes unnoticed there, but one can work.
            yield

    @property
    def is_locked(self) -> bool:
        """Whether a benchmark is writing to the folder; asking changes nothing in it.

        False where the file system has no locks: nobody knows there.
        """
        try:
            file = open_regular(self._lock_file)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._no_lock(error.strerror) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                return error.errno not in NO_LOCKS
        return False

    @property
    def _lock_file(self) -> Path:
        return self.root / ".lock"

    def _no_lock(self, why: str | None) -> UserError:
        return UserError(f"{self._lock_file} cannot be used as a lock: {why}.")

    def record(self, run_id: str) -> RunRecord | None:
        """Return the record of a run; None where it is missing or half written."""
        found = self.read(run_id)
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
        for run_id in self.run_ids():
            yield self.read(run_id)

    def run_ids(self) -> Iterator[str]:
        """Yield the names of the runs that have a record, in their order; those of symbolic links, too."""
        with os.scandir(self.root / "runs") as entries:  # a Path for each would take far longer
            found = sorted(entry.name for entry in entries if _is_run(entry))
        yield from found

    def read(self, run_id: str) -> RunRecord | Damaged:
        """Read the record of a run.

        Raises
        ------
        NewerVersionError
            If a later version of this program wrote it: it is not damaged, and must not be replaced.
        UserError
            If this user may not read it, which does not mean that it is damaged either.
        """
        try:
            path = self.run_folder(run_id) / RECORD
            record = read_record(path)
        except NewerVersionError:
            raise
        except UserError as error:
            if isinstance(error.__cause__, PermissionError):
                raise UserError(f"{error} Give yourself the right to read it.") from error
            return Damaged(run_id=run_id, reason=str(error))
        if record.run_id != run_id:
            return Damaged(run_id=run_id, reason=f"{path} is the record of another run, {record.run_id!r}.")
        return record

    def write(self, record: RunRecord) -> None:
        """Write a record, which marks its run as done."""
        write_record(record, folder_below(self.root, "runs", record.run_id) / RECORD)

    def forget(self, run_ids: Iterable[str]) -> None:
        """Delete the records of runs with all that was kept of them.

        Raises
        ------
        UserError
            As for :meth:`run_folder`.
        """
        for run_id in run_ids:
            folder = self.run_folder(run_id)
            discard(folder / RECORD)  # first: what is left without it is not a result
            discard(folder)


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{root} cannot be written: {error.strerror}.") from error


def _is_run(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() or os.path.lexists(f"{entry.path}/{RECORD}")


def _seems_newer(path: Path, most_bytes: int) -> bool:
    try:
        content = read_regular(path, most_bytes=most_bytes)
    except OSError:
        return False
    return any(int(digits) > SCHEMA_VERSION for digits in _VERSION.findall(content))


def _check_version_of(path: Path, most_bytes: int) -> None:
    """Refuse a JSON file of a later version; one that cannot be read at all is not of any."""
    try:
        fields = read_json(path, what="JSON file", most_bytes=most_bytes)
    except UserError:
        return
    check_version(path, fields)


def _check_version_of_index(path: Path) -> None:
    """Do the same with an index, whose first line says it if any does."""
    try:
        with open_regular(path) as file:
            fields = parse_json(file.readline(MOST_MARK_BYTES))
    except (OSError, ValueError):
        return
    check_version(path, fields)


def describe_outputs(path: Path) -> OutputFile:
    """Return size and digest of an output file.

    Raises
    ------
    OSError
        If it is no regular file or cannot be read.
    """
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return OutputFile(n_bytes=os.fstat(file.fileno()).st_size, sha256=digest)


def describe_bytes(content: bytes) -> OutputFile:
    """Return size and digest of the content of an output file."""
    return OutputFile(n_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
