"""Two benchmarks in one folder, locks that are not there, folders that move while they are used."""

import errno
import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cellular_bench.benchmark.isolation import scratch
from cellular_bench.benchmark.results.store import Store


@pytest.fixture
def command(quick_suite) -> Callable[..., tuple]:
    def make(out: object, *options: str) -> tuple:
        return ("run", "--suite", quick_suite, "--out", out, "--no-figures", *options)

    return make


@pytest.fixture
def start(program, command, tmp_path) -> Callable[..., subprocess.Popen]:
    """Start a benchmark as a process that shares temporary files with the others of the test."""
    (tmp_path / "tmp").mkdir()

    def begin(out: Path, *options: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*program, *map(str, command(out, *options))],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
        )  # fmt: skip

    return begin


@pytest.fixture
def run(run_benchmark, command, check_said):
    def carry_out(out: object, *options: str, cwd: Path | None = None):
        done = run_benchmark(*command(out, *options), cwd=cwd)
        check_said(done)
        return done

    return carry_out


@pytest.mark.slow
def test_of_several_that_start_at_once_one_works_and_nothing_is_doubled(
    start, tmp_path, scores, calm, check_whole
) -> None:
    for number in range(4):
        out = tmp_path / f"out{number}"
        started = [start(out) for _ in range(3)]
        said = [process.communicate(timeout=170)[0] for process in started]
        assert "Traceback" not in "".join(said), said
        assert 0 in [process.returncode for process in started]
        for process, text in zip(started, said, strict=True):
            assert process.returncode in (0, 2)
            assert process.returncode == 0 or "Another run-benchmark is writing to" in text
        assert scores(out) == calm
        check_whole(out)


@pytest.mark.slow
def test_two_folders_share_the_temporary_files(start, tmp_path, scores, calm) -> None:
    started = [start(tmp_path / f"out{number}") for number in range(3)]
    for number, process in enumerate(started):
        said, _ = process.communicate(timeout=170)
        assert process.returncode == 0, said
        assert scores(tmp_path / f"out{number}") == calm
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_living_home_is_not_taken_for_an_abandoned_one(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    held = tmp_path / f"{scratch.PREFIX}held"
    held.mkdir()
    lock = os.open(held / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert scratch.remove_abandoned() == []

    def no_locks(descriptor: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    os.close(lock)
    monkeypatch.setattr(scratch.fcntl, "flock", no_locks)
    assert scratch.remove_abandoned() == [], "without locks nobody knows whether it is abandoned"
    monkeypatch.undo()
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    assert scratch.remove_abandoned() == [held]


def test_where_the_file_system_has_no_locks_a_benchmark_works(
    monkeypatch, tmp_path, run, scores, calm
) -> None:
    def no_locks(descriptor: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    scratch._home.cache_clear()
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    try:
        done = run(tmp_path / "out")
    finally:
        scratch._home.cache_clear()
    assert done.returncode == 0
    assert scores(tmp_path / "out") == calm
    status = Store.open(tmp_path / "out").is_locked
    assert status is False, "without locks, a writer cannot be seen"


def test_a_lock_that_somebody_removes_lets_no_run_go_wrong(
    tmp_path, run, at_stage, scores, calm, check_whole
) -> None:
    out = tmp_path / "out"
    at_stage("started", (out / ".lock").unlink)
    assert run(out).returncode == 0
    assert scores(out) == calm
    check_whole(out)


@pytest.mark.slow
@pytest.mark.parametrize("other", [["rescore", "{out}"], ["run", "--suite", "{suite}", "--out", "{out}"]])
@pytest.mark.parametrize("stage", ["begin", "started", "end"])
def test_a_second_writer_is_refused(
    tmp_path, run, run_benchmark, at_stage, scores, calm, check_said, quick_suite, other, stage
) -> None:
    out, second = tmp_path / "out", []
    words = [word.format(out=out, suite=quick_suite) for word in other]
    at_stage(stage, lambda: second.append(run_benchmark(*words)))
    assert run(out).returncode == 0
    assert second[0].returncode == 2
    assert "Another run-benchmark is writing to" in second[0].stderr
    check_said(second[0])
    assert scores(out) == calm


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["begin", "started", "finished", "end"])
def test_a_page_that_is_watched_beside_a_benchmark_harms_neither(
    tmp_path, run, program, at_stage, scores, calm, check_whole, stage
) -> None:
    from cellular_bench.workflows import report
    from cellular_bench.workflows.progress import SILENT

    out = tmp_path / "out"

    def watch_once() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(report.time, "sleep", lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                report.watch(Store.open(out), interval=1, progress=SILENT)

    at_stage(stage, watch_once)
    assert run(out).returncode == 0
    assert scores(out) == calm
    check_whole(out)


@pytest.mark.parametrize("stage", ["begin", "started", "finished", "end"])
def test_a_folder_that_is_renamed_while_it_is_used(
    tmp_path, run, at_stage, scores, calm, check_whole, stage
) -> None:
    out, moved = tmp_path / "out", tmp_path / "moved"
    at_stage(stage, lambda: out.rename(moved))
    done = run(out)
    assert done.returncode in (1, 2)
    assert str(out) in done.stderr
    assert not out.exists(), "nothing is made at the old place"
    assert {path.name for path in tmp_path.iterdir()} == {"moved"}
    assert run(moved, "--retry", "failed").returncode == 0
    assert scores(moved) == calm
    check_whole(moved)


@pytest.mark.slow
def test_moved_folders_go_on(tmp_path, run, run_benchmark, scores, calm, check_said) -> None:
    (tmp_path / "a").mkdir()
    assert run("out", "--method", "random_label", cwd=tmp_path / "a").returncode == 0
    (tmp_path / "a").rename(tmp_path / "b")
    assert "2 runs, 1 to do" in run("out", cwd=tmp_path / "b").stdout
    (tmp_path / "b" / "out").rename(tmp_path / "c")
    assert "2 runs, 0 to do" in run(tmp_path / "c").stdout
    assert scores(tmp_path / "c") == calm
    record = next(iter(sorted((tmp_path / "c").glob("runs/*/record.json"))))
    for words in (
        ["report", "c", "--no-figures"],
        ["rescore", "c"],
        ["merge", "c", "--out", "d"],
        ["reproduce", record],
    ):
        done = run_benchmark(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        check_said(done)
    assert scores(tmp_path / "d") == calm


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["with space", "ünïcødé 細胞", "-leading", "line\nfeed", "quote'\"$(x)", "x" * 200, "%s{}[1]*?#&"]
)
def test_folders_of_odd_names(
    tmp_path, run, run_benchmark, scores, calm, check_whole, check_said, name
) -> None:
    out = tmp_path / name
    done = run_benchmark(*("run", "--no-figures", f"--out={out}"), "--suite", tmp_path / "quick.toml")
    assert done.returncode == 2
    done = run(f"./{name}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert scores(out) == calm
    check_whole(out)
    for words in (["report", f"./{name}", "--no-figures"], ["status", f"./{name}"], ["rescore", f"./{name}"]):
        done = run_benchmark(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        check_said(done)


@pytest.mark.slow
def test_a_very_long_path(tmp_path, run, scores, calm, check_whole) -> None:
    out = tmp_path.joinpath(*["y" * 200] * 15)
    done = run(out)
    assert done.returncode == 0, done.stderr
    assert scores(out) == calm
    check_whole(out)
    out = tmp_path.joinpath(*["y" * 200] * 25)
    done = run(out)
    assert done.returncode in (1, 2)
    assert "File name too long" in done.stderr


@pytest.mark.slow
def test_a_root_that_is_a_link(tmp_path, run, scores, calm, check_whole) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert run(tmp_path / "link").returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert scores(tmp_path / "real") == calm
    check_whole(tmp_path / "real")
    (tmp_path / "other").mkdir()
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("other")
    assert "2 runs, 2 to do" in run(tmp_path / "link").stdout


def test_the_current_folder_may_be_deleted_meanwhile(
    tmp_path, run, at_stage, scores, calm, check_whole
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    at_stage("begin", here.rmdir)
    back = Path.cwd()
    os.chdir(here)
    try:
        done = run(tmp_path / "out")
    finally:
        os.chdir(back)
    assert done.returncode == 0, done.stderr
    assert scores(tmp_path / "out") == calm
    check_whole(tmp_path / "out")
