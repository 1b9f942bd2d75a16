"""A run in a result folder: its files, and what its method may see of them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cellular_bench import environments
from cellular_bench.benchmark.execution.views import visible_files
from cellular_bench.benchmark.execution.worker import Assignment
from cellular_bench.benchmark.isolation import sandbox
from cellular_bench.benchmark.isolation.confinement import Confinement
from cellular_bench.benchmark.isolation.sandbox import Isolation
from cellular_bench.benchmark.plan.run import PlannedRun
from cellular_bench.benchmark.results.merge import MOST_ARTIFACT_BYTES, MOST_ARTIFACTS
from cellular_bench.benchmark.results.store import ARTIFACTS, Store
from cellular_bench.core.files import discard


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run in a result folder: the files that it reads and writes."""

    run: PlannedRun
    store: Store

    @property
    def data(self) -> Path:
        """The prepared data."""
        return self.store.data_file(self.run.dataset)

    @property
    def truth_folder(self) -> Path:
        """Folder of the split: what its scores are computed from."""
        return self.store.split_folder(self.run.dataset, self.run.split)

    @property
    def folder(self) -> Path:
        """Folder of the run, which its method does not see."""
        return self.store.run_folder(self.run.run_id)

    @property
    def views(self) -> Path:
        """Folder of the cells that its method may see."""
        method = self.run.method
        assert method.features is not None, "only imported results have none"
        return self.store.views_folder(
            self.run.dataset, self.run.split, method.features, method.preprocessing
        )

    @property
    def working(self) -> Path:
        """Folder in which its method writes; no name of a data set, a split or a label is in its path."""
        name = hashlib.sha256(self.run.run_id.encode()).hexdigest()[:16]
        return self.store.working_folder(name)

    @property
    def out(self) -> Path:
        """Folder of what its method hands over."""
        return self.working / "out"

    def assignment(self) -> Assignment:
        """Return what the process of its method knows of it."""
        return Assignment(
            task=self.run.task,
            method_id=self.run.method.method_id,
            params=self.run.method.params,
            seed=self.run.method_seed,
            features=self.run.method.features,
            plugins=self.run.plugins,
            views=self.views,
            out=self.out,
            artifacts=self.working / ARTIFACTS,
            is_timed=not self.run.is_canary,
            is_walled=self.isolation != "process",
        )

    def open(self) -> None:
        """Make the folders of its method, with the artifacts of an earlier try."""
        working = self.working
        kept, artifacts = self.folder / ARTIFACTS, working / ARTIFACTS
        for old in working.iterdir():
            if old.name != ARTIFACTS or old.is_symlink() or not old.is_dir():
                discard(old)
        if kept.is_dir() and not artifacts.exists():
            kept.rename(artifacts)
        artifacts.mkdir(exist_ok=True)
        self.out.mkdir()

    def close(self) -> tuple[str, ...]:
        """Put the artifacts beside the record, and delete the rest; return notes on what was deleted."""
        working = self.working
        artifacts = working / ARTIFACTS
        _make_accessible(working)
        n_deleted = 0
        if artifacts.is_dir() and not artifacts.is_symlink():
            n_deleted = _delete_what_is_no_file(artifacts)
            if any(artifacts.iterdir()):
                discard(self.folder / ARTIFACTS)
                artifacts.rename(self.folder / ARTIFACTS)
        discard(working)
        if not n_deleted:
            return ()
        limit = f"{MOST_ARTIFACTS} files and {MOST_ARTIFACT_BYTES >> 30} GiB"
        return (f"{n_deleted} of its artifacts were deleted: links, pipes, devices, or beyond {limit}.",)

    @property
    def visible_files(self) -> tuple[Path, ...]:
        """The files with cells that its method may see."""
        access = self.run.access
        names = visible_files(
            labels=self.run.method.labels,
            needs_train=access.needs_train,
            needs_names=access.needs_names,
            is_called_twice=access.is_called_twice,
        )
        return tuple(self.views / name for name in names)

    @property
    def isolation(self) -> Isolation:
        """The walls around the process of its method on this machine."""
        return sandbox.best().kind if self.run.sandbox else "process"

    def confinement(self) -> Confinement:
        """Return what the process of its method may use on this machine."""
        run, access = self.run, self.run.access
        own = environments.state(environments.find(access.environment)) if access.environment else None
        return Confinement(
            kind=self.isolation,
            readable=(
                *self.visible_files,
                *_code_of(run),
                *access.files,
                *(own.folders if own else ()),
            ),
            writable=(self.out, self.working / ARTIFACTS),
            hidden=(self.store.root,),
            variables=own.variables if own else {},
            weights=tuple(path for path in map(_absolute, access.weights) if path.exists()),
        )


def _code_of(run: PlannedRun) -> Iterator[Path]:
    """Yield the files of a method's code: plug-ins with the modules beside them, its package, its program."""
    for path in run.plugins:
        yield path
        yield from (other for other in sorted(path.parent.glob("*.py")) if not other.is_symlink())
        yield from sorted(other.parent for other in path.parent.glob("*/__init__.py"))
    if run.access.package is not None:
        package = importlib.util.find_spec(run.access.package)  # without importing it: this is no run
        if package is not None:
            yield from map(Path, package.submodule_search_locations or filter(None, [package.origin]))
    if run.access.program is not None:
        yield environments.program_file(run.access.program)
    if run.access.environment is not None:
        named = environments.find(run.access.environment)
        yield from (Path(run.access.environment), *named.files) if named.files else ()


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def _make_accessible(folder: Path) -> None:
    """Give back the rights to folders that a method took away, so that they can be emptied."""
    folder.chmod(0o700)
    for at, folders, _ in os.walk(folder):
        for name in folders:
            path = Path(at, name)
            if not path.is_symlink():
                path.chmod(0o700)


def _delete_what_is_no_file(folder: Path) -> int:
    """Delete links, pipes and devices below a folder, and files beyond the limits; return how many."""
    n_files, n_bytes, n_deleted = 0, 0, 0
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        if stat.S_ISDIR(facts.st_mode):
            continue
        n_files, n_bytes = n_files + 1, n_bytes + facts.st_size
        if not stat.S_ISREG(facts.st_mode) or n_files > MOST_ARTIFACTS or n_bytes > MOST_ARTIFACT_BYTES:
            path.unlink()
            n_deleted += 1
    return n_deleted
