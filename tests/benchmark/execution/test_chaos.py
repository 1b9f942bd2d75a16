"""Forty runs, most of them hostile, under a harness that is killed five times."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from cellular_bench.benchmark.results.store import Store

pytestmark = pytest.mark.slow

EXPECTED = {
    "healthy": "ok",
    "writes": "ok",
    "prints": "ok",
    "raises": "failed",
    "segfaults": "failed",
    "leaves": "failed",
    "garbage": "failed",
    "sleeps": "timeout",
    "forks": "timeout",
    "allocates": "out_of_memory",
}
SUITE = f"""
title = "Chaos"
limits = {{ time_limit_s = 45, memory_limit_mib = 1500 }}
[[blocks]]
task = "annotation"
datasets = ["simulated_small"]
methods = {list(EXPECTED)}
splits = ["all"]
seeds = [0, 1, 2, 3]
"""
N_RUNS, N_KILLS = 4 * len(EXPECTED), 5


class Harness:
    """The command line as a process of its own, with temporary files of its own."""

    def __init__(self, folder: Path, plugin: Path) -> None:
        self.out, self.temporary = folder / "out", folder / "tmp"
        self.temporary.mkdir()
        suite = folder / "chaos.toml"
        suite.write_text(SUITE)
        self.command = [sys.executable, "-c", "from cellular_bench.cli import main; main()", "run"]
        self.command += ["--suite", str(suite), "--plugin", str(plugin), "--out", str(self.out)]
        self.command += ["--no-figures", "--jobs", "4"]

    def start(self, methods: Iterable[str] = EXPECTED) -> subprocess.Popen:
        environment = {**os.environ, "TMPDIR": str(self.temporary)}
        log = (self.out.parent / "log.txt").open("a")
        command = [*self.command, "--method", ",".join(methods)]
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    @property
    def n_records(self) -> int:
        return len(list(self.out.glob("runs/*/record.json")))

    def processes(self) -> list[psutil.Process]:
        """Return what is left of any run: its temporary folder is in its environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("TMPDIR", "").startswith(str(self.temporary)):
                    found.append(process)
            except psutil.Error:
                continue
        return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def test_every_run_has_one_right_record_whatever_happens(tmp_path, plugin) -> None:
    (tmp_path / "calm").mkdir()
    (tmp_path / "stormy").mkdir()
    calm, stormy = Harness(tmp_path / "calm", plugin), Harness(tmp_path / "stormy", plugin)
    well = [name for name, status in EXPECTED.items() if status == "ok"]
    assert calm.start(well).wait(timeout=1800) == 0

    rng, n_killed = random.Random(7), 0
    for _ in range(N_KILLS):
        before = stormy.n_records
        process = stormy.start()
        until = before + rng.randint(0, 7)
        deadline = time.monotonic() + 600
        while stormy.n_records < until and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 1))
        if process.poll() is not None:  # on a fast machine all runs may be done before the last kill
            break
        process.kill()
        n_killed += 1
        process.wait()
        assert stormy.n_records >= before, "what had a record keeps it"
    assert n_killed >= 2, "it must be killed while it works"

    assert stormy.start().wait(timeout=1800) == 1, "some runs did not end well"
    store = Store.open(stormy.out)
    records = list(store.records())
    assert len(records) == len({record.run_id for record in records}) == N_RUNS
    assert store.damaged() == []
    found = {(record.method.method_id, record.seed): record.status for record in records}
    assert found == {(name, seed): status for name, status in EXPECTED.items() for seed in range(4)}

    undisturbed = {record.run_id: record for record in Store.open(calm.out).records()}
    healthy = [record for record in records if record.status == "ok"]
    assert len(undisturbed) == len(healthy) == 12
    for record in healthy:
        other = undisturbed[record.run_id]
        assert (record.scores, record.outputs) == (other.scores, other.outputs)

    deadline = time.monotonic() + 30  # the servers of processes end a moment after their harness
    while stormy.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert stormy.processes() == []
    assert [path.name for path in stormy.temporary.iterdir()] == [], (
        "temporary folders of killed ones are gone"
    )
    left = {path.name for path in stormy.out.glob("runs/*/*")}
    assert left == {"record.json", "outputs.npz", "log.txt"}
    largest = max(path.stat().st_size for path in stormy.out.glob("runs/*/log.txt"))
    assert largest < 2.2 * 2**20, "what printed 100 MB has kept its beginning and its end"
