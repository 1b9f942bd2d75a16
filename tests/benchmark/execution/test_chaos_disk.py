"""A disk that is full or read-only, at every write: a short reason, nothing lost, the next run ends well."""

import os
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from cellular_bench.benchmark.results.store import Store

#: Stages of a run, and the pages and files that its writes from there on need at most.
NEEDS = {"before": (640, 60), "started": (24, 24), "finished": (12, 16), "end": (64, 24)}
N_STEPS = 25


@pytest.fixture
def disturbed(small_disk, quick_suite, run_benchmark, calm, scores, check_whole, check_said, at_stage):
    """Run the suite on a disk that fills up at a stage, then on a free disk; say how the first ended."""

    def run(stage: str, n: int, fill: str = "leave", *options: str) -> tuple:
        small_disk.clear()
        kept: dict = {}

        def fill_up() -> None:
            if small_disk.out.exists():
                kept.update(scores(small_disk.out))
            getattr(small_disk, fill)(n)

        command = ("run", "--suite", quick_suite, "--out", small_disk.out, *options)
        at_stage(stage, fill_up)
        done = run_benchmark(*command)
        check_said(done)
        left = {}
        if (small_disk.out / "runs").exists():
            check_whole(small_disk.out)
            left = scores(small_disk.out)
            assert kept.items() <= left.items(), "what had a record keeps it"
            assert Store.open(small_disk.out).damaged() == []
        statuses = sorted(status for status, _ in left.values())
        small_disk.free()
        again = run_benchmark(*command, "--retry", "failed")
        assert again.returncode == 0, again.stdout + again.stderr
        check_whole(small_disk.out)
        assert scores(small_disk.out) == calm
        files = {re.sub("-[0-9a-f]{10,}", "", path.name) for path in small_disk.out.rglob("*")}
        return done.returncode, re.sub("[0-9a-f]{10,}", "", done.stderr), *statuses, len(files)

    return run


@pytest.mark.parametrize(
    ("stage", "n_pages"), [("before", 0), ("before", 8), ("before", 250), ("started", 1), ("end", 2)]
)
def test_a_full_disk_costs_nothing_but_time(disturbed, stage, n_pages) -> None:
    code, message, *_ = disturbed(stage, n_pages, "leave", "--no-figures")
    assert code in (1, 2)
    assert "No space left on device" in message


def test_a_disk_without_names_for_files_costs_nothing_but_time(disturbed) -> None:
    code, message, *_ = disturbed("begin", 4, "leave_inodes", "--no-figures")
    assert code == 2
    assert "No space left on device" in message


@pytest.mark.slow
@pytest.mark.parametrize("fill", ["leave", "leave_inodes"])
@pytest.mark.parametrize("stage", NEEDS)
def test_a_full_disk_at_every_write(disturbed, stage, fill) -> None:
    most = NEEDS[stage][fill == "leave_inodes"]
    found = {0: disturbed(stage, 0, fill), most: disturbed(stage, most, fill)}
    for _ in range(N_STEPS):  # between two steps that end otherwise, the widest gap first
        steps = sorted(found)
        gaps = [
            (high - low, low) for low, high in pairwise(steps)
            if high - low > 1 and found[low] != found[high]
        ]  # fmt: skip
        if not gaps:
            break
        width, low = max(gaps)
        found[low + width // 2] = disturbed(stage, low + width // 2, fill)
    # A run that has ended makes room: its working files go.
    assert stage == "finished" or found[0][0] != 0, "nothing could be written"
    assert found[most][0] == 0, "there was room for all"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, run_benchmark, quick_suite) -> Path:
    """A result folder that nothing has disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert run_benchmark("run", "--suite", quick_suite, "--out", out, "--no-figures").returncode == 0
    return out


@pytest.fixture
def disk_with_results(small_disk, whole):
    small_disk.clear()
    shutil.copytree(whole, small_disk.out)
    for name in ("leaderboard.html", "leaderboard.md", "scores.csv"):
        (small_disk.out / name).unlink()
    return small_disk


COMMANDS = {
    "report": ["report", "{out}", "--no-figures"],
    "site": ["report", "{out}", "--site", "{disk}/site", "--no-figures"],
    "pdf": ["report", "{out}", "--format", "pdf", "--no-figures"],
    "rescore": ["rescore", "{out}", "--min-cells", "1000"],
    "merge": ["merge", "{whole}", "--out", "{disk}/merged"],
    "export": ["export", "{out}", "--format", "csv"],
    "export h5ad": ["export", "{out}", "--format", "h5ad"],
    "reproduce": ["reproduce", "{out}/runs/{run_id}/record.json", "--out", "{disk}/again"],
}


@pytest.mark.parametrize("how", ["full", "ro"])
@pytest.mark.parametrize("name", COMMANDS)
def test_other_commands_say_that_a_disk_cannot_be_written(
    disk_with_results, whole, run_benchmark, scores, check_said, name, how
) -> None:
    disk = disk_with_results
    before = scores(disk.out)
    given = {"out": disk.out, "disk": disk.folder, "whole": whole, "run_id": sorted(before)[0]}
    command = [word.format(**given) for word in COMMANDS[name]]
    if how == "full":
        disk.leave(0)
    else:
        disk.remount("ro")
    try:
        done = run_benchmark(*command)
    finally:
        disk.remount("rw")
    check_said(done)
    assert done.returncode in (1, 2), done.stdout
    assert {"full": "No space left on device", "ro": "Read-only file system"}[how] in done.stderr
    assert scores(disk.out) == before
    disk.free()
    assert run_benchmark(*command).returncode == 0
    for folder in ("merged", "again", "site"):
        shutil.rmtree(disk.folder / folder, ignore_errors=True)


def as_ordinary_user(*command: object, **environment: str) -> subprocess.CompletedProcess:
    """Carry out a command with rights that folders can refuse, also where the tests run as administrator."""
    rights = "-dac_override,-dac_read_search,-fowner"
    words = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"] if os.getuid() == 0 else []
    if words and not shutil.which("setpriv"):
        pytest.skip("the administrator may write everywhere, and setpriv is not installed")
    return subprocess.run(
        [*words, *map(str, command)],
        capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )  # fmt: skip


@pytest.mark.slow
def test_folders_that_refuse_to_be_written(
    whole, tmp_path, program, quick_suite, scores, calm, check_said
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    run = (*program, "run", "--suite", quick_suite, "--no-figures", "--out")
    for folder in (out, out / "runs"):
        folder.chmod(0o500)
        done = as_ordinary_user(*run, out, "--fresh")
        assert done.returncode in (1, 2)
        assert "Permission denied" in done.stderr
        check_said(done)
        folder.chmod(0o700)
    for record in out.glob("runs/*/record.json"):
        record.chmod(0)
    done = as_ordinary_user(*run, out)
    assert done.returncode == 2, "what may not be read is not done again"
    assert "Permission denied" in done.stderr
    check_said(done)
    for record in out.glob("runs/*/record.json"):
        record.chmod(0o600)
    assert scores(out).items() <= calm.items(), "--fresh deletes what it can"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["read-only", "absent", "unset"])
@pytest.mark.parametrize("name", ["HOME", "TMPDIR"])
def test_homes_and_temporary_folders_of_every_kind(
    tmp_path, program, quick_suite, scores, calm, check_said, name, kind
) -> None:
    folder = tmp_path / "folder"
    if kind == "read-only":
        folder.mkdir(mode=0o500)
    command = [*program, "run", "--suite", quick_suite, "--no-figures", "--out", tmp_path / "out"]
    unset = ["env", "-u", name] if kind == "unset" else []
    done = as_ordinary_user(*unset, *command, **{name: str(folder)})
    assert done.returncode == 0, done.stderr
    check_said(done)
    assert scores(tmp_path / "out") == calm
