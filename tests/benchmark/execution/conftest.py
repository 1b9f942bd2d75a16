"""What the tests of chaos share: a quick suite, a small file system, what must hold of a folder."""

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import pytest

from cellular_bench.benchmark.results.store import Store

QUICK = """
title = "Quick"
leak_canary = false
[[blocks]]
task = "annotation"
datasets = ["simulated_small"]
methods = ["majority_label", "random_label"]
splits = ["all"]
"""


@pytest.fixture(scope="session")
def quick_suite(tmp_path_factory) -> Path:
    """Two annotators of no cost on the simulated data."""
    path = tmp_path_factory.mktemp("suite") / "quick.toml"
    path.write_text(QUICK)
    return path


@pytest.fixture(scope="session")
def scores() -> Callable[[Path], dict]:
    """How the runs of a folder ended, and their scores."""

    def of(root: Path) -> dict:
        return {record.run_id: (record.status, record.scores) for record in Store.open(root).records()}

    return of


@pytest.fixture(scope="session")
def calm(tmp_path_factory, run_benchmark, quick_suite, scores) -> dict:
    """Scores of the quick suite that nothing has disturbed."""
    out = tmp_path_factory.mktemp("calm") / "out"
    assert run_benchmark("run", "--suite", quick_suite, "--out", out, "--no-figures").returncode == 0
    return scores(out)


def _check(path: Path) -> None:
    if path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".jsonl":
        [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    elif path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
    elif path.suffix == ".h5ad":
        with h5py.File(path) as file:
            assert {"X", "obs", "var"} <= file.keys()
    elif path.suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>")
    elif path.suffix == ".webp":
        data = path.read_bytes()
        assert len(data) == 8 + int.from_bytes(data[4:8], "little")


@pytest.fixture(scope="session")
def check_whole() -> Callable[[Path], None]:
    """Fail if a file below a folder is half written or left over from writing."""

    def check(root: Path) -> None:
        for path in sorted(root.rglob("*")):
            if path.is_file() and path != root / ".lock":
                assert not path.name.startswith("."), f"left over: {path}"
                _check(path)
        assert not (root / "views").exists()

    return check


@pytest.fixture(scope="session")
def check_said() -> Callable[..., None]:
    """Fail if a command printed a traceback, or ended without a short reason."""

    def check(done, *, most_lines: int = 2) -> None:
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        errors = [line for line in done.stderr.splitlines() if not line.startswith("No figure of")]
        assert len(errors) <= most_lines, done.stderr
        assert done.returncode == 0 or errors or "failed" in done.stdout

    return check


STAGES = ("begin", "started", "finished", "end")


@pytest.fixture
def at_stage(monkeypatch) -> Callable[[str, Callable[[], object]], None]:
    """Do something once when the next command in this process reaches a stage: the disk fills, a file goes.

    ``"begin"`` is before data and splits are written, ``"started"`` and ``"finished"`` are those of the first
    run, and ``"end"`` is before figures and pages.
    """
    from cellular_bench.cli import messages
    from cellular_bench.progress import ConsoleProgress

    wanted: dict[str, Callable[[], object]] = {}

    def watched(stage: str) -> Callable[..., None]:
        inner = getattr(ConsoleProgress, stage)

        def reached(self: ConsoleProgress, *args: object) -> None:
            inner(self, *args)
            wanted.pop(stage, lambda: None)()

        return reached

    kind = type("Watched", (ConsoleProgress,), {stage: watched(stage) for stage in STAGES})
    monkeypatch.setattr(messages, "progress", kind)

    def at(stage: str, do: Callable[[], object]) -> None:
        wanted.clear()
        if stage == "before":
            do()
        else:
            wanted[stage] = do

    return at


@dataclass(frozen=True)
class Disk:
    """A small file system of which little may be left."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def filler(self) -> Path:
        return self.folder / "filler"

    def leave(self, n_pages: int) -> None:
        """Fill all but this many pages of 4 kB."""
        self.free()
        seen = os.statvfs(self.folder)
        n_bytes = (seen.f_bavail - n_pages) * seen.f_frsize
        self.filler.mkdir()
        if n_bytes > 0:
            with (self.filler / "bytes").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, n_bytes)

    def leave_inodes(self, n: int) -> None:
        """Use all names of files but this many."""
        self.free()
        self.filler.mkdir()
        for number in range(os.statvfs(self.folder).f_ffree - n):
            (self.filler / str(number)).touch()

    def free(self) -> None:
        shutil.rmtree(self.filler, ignore_errors=True)

    def clear(self) -> None:
        self.free()
        shutil.rmtree(self.out, ignore_errors=True)

    def remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.folder)], check=True)


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory) -> Iterator[Disk]:
    """A file system of 8 MB and 400 files."""
    folder = tmp_path_factory.mktemp("disk") / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=400", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by the administrator of a Linux machine only")
    yield Disk(folder)
    subprocess.run(["umount", str(folder)], check=True)
