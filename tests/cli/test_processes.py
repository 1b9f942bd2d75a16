"""The command as a process: its entry point, exit codes, Ctrl-C, and a reader that goes away."""

import os
import signal
import subprocess
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import psutil

from cellular_bench.benchmark.results.store import Store


def test_the_entry_point_shows_its_help(program: list[str]) -> None:
    (point,) = entry_points(group="console_scripts", name="run-benchmark")
    assert point.value == "cellular_bench.cli:main"
    done = subprocess.run([*program, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: run-benchmark [OPTIONS] COMMAND")
    assert done.stderr == ""


def test_a_wrong_name_ends_with_code_2_and_no_traceback(program: list[str]) -> None:
    done = subprocess.run([*program, "check", "harmoni"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: Unknown method 'harmoni'. Did you mean 'harmony'?")
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_ends_the_command_quietly(program: list[str]) -> None:
    listing = subprocess.Popen(
        [*program, "list", "metrics", "--format", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    listing.stdout.close()
    assert listing.stderr.read() == b""
    assert listing.wait() == 1
    listing.stderr.close()


def test_ctrl_c_ends_what_runs_and_keeps_what_is_done(
    program: list[str], plugin: Path, tmp_path: Path, wait_for: Callable[..., None]
) -> None:
    out = tmp_path / "out"
    command = [*program, "run", "--dataset", "simulated_small", "--task", "annotation", "--split", "all"]
    command += ["--plugin", str(plugin), "--method", "knn,sleeps", "--jobs", "2", "--out", str(out)]
    command += ["--seeds", "0", "--no-figures"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        wait_for(lambda: process.poll() is not None or list(out.glob("runs/*-knn-*/record.json")))
        wait_for(lambda: process.poll() is not None or list(out.glob("runs/*-sleeps-*/log.txt")))
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.strip().startswith("Stopped. ")
    assert "Traceback" not in errors
    assert "2 runs, 2 to do, 2 at a time" in printed
    assert "\x1b" not in printed, "a pipe gets plain text"
    assert {record.method.method_id for record in Store.open(out).records()} == {"knn"}
    assert psutil.wait_procs(started, timeout=20)[1] == []
