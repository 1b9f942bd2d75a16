"""Cost of the harness: the overhead of a run over its method's time, and reading 100,000 records.

``pytest benchmarks/test_harness.py -m "slow or not slow"`` measures processor time. A busy machine still has
an effect: supervisors check their runs at fixed intervals, so a run that waits is checked more often.
"""

import resource
import time
from collections import defaultdict
from statistics import fmean

import psutil
import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution.executor import Executor
from cellular_bench.benchmark.plan.planner import plan
from cellular_bench.benchmark.results import index
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.datasets import catalog

N_RUNS, SECONDS_PER_RUN = 200, 0.25
N_RECORDS, SECONDS_FOR_ALL = 100_000, 10.0


class Silent:
    def started(self, run): ...

    def finished(self, record): ...


def planned(n_runs):
    datasets = {"simulated_small": catalog.load(catalog.specs()["simulated_small"])}
    block = {
        "task": "annotation",
        "datasets": ["simulated_small"],
        "methods": ["majority_label"],
        "splits": ["all"],
        "seeds": list(range(n_runs)),
    }
    suite = Suite(suite_id="trivial", title="Trivial", blocks=[block])
    return datasets, plan(suite, datasets=datasets, methods=registry.methods())


def tree_cpu_s():
    """Processor time of this process and its descendants, including finished ones."""
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("harness") / "out"


def test_a_trivial_run_costs_little_more_than_its_method(folder):
    datasets, planned_runs = planned(N_RUNS + 1)
    store = Store.create(folder, planned_runs.suite)
    records = Executor(store=store, n_jobs=1).execute(planned_runs, datasets=datasets, progress=Silent())
    next(records)  # starts the server and prepares the split, both only once
    before, started = tree_cpu_s(), time.perf_counter()
    own = sum(record.cost.cpu_time_s for record in records)
    spent, wall = tree_cpu_s() - before, time.perf_counter() - started
    each = (spent - own) / N_RUNS
    print(f"\n{each:.3f} s of processor time a run over its method's own; {wall / N_RUNS:.2f} s by the clock")
    assert each <= SECONDS_PER_RUN


@pytest.mark.slow
def test_a_hundred_thousand_records_are_listed_filtered_and_averaged(folder, tmp_path):
    datasets, planned_runs = planned(1)
    store = Store.create(tmp_path / "out", planned_runs.suite)
    (record,) = Executor(store=store).execute(planned_runs, datasets=datasets, progress=Silent())
    text = (store.run_folder(record.run_id) / "record.json").read_text(encoding="utf-8")
    for number in range(1, N_RECORDS):
        run_id = f"{record.run_id[:-10]}{number:010d}"
        made = store.run_folder(run_id)
        made.mkdir()
        (made / "record.json").write_text(text.replace(record.run_id, run_id), encoding="utf-8")
    first = cpu_of(lambda: index.read(store, keep=True))

    def ask():
        found, damaged = index.read(store)
        values = defaultdict(list)
        for run in found:
            if run.status == "ok" and run.task == "annotation":
                values[run.method_id, run.dataset_id].append(run.values["accuracy"])
        means = {key: fmean(of) for key, of in values.items()}
        assert len(found) == N_RECORDS and not damaged
        assert means == {("majority_label", "simulated_small"): pytest.approx(record.value("accuracy"))}

    again = cpu_of(ask)
    print(f"\n{again:.1f} s of processor time with the index; {first:.1f} s to build the index")
    assert again < SECONDS_FOR_ALL


def cpu_of(function):
    before = resource.getrusage(resource.RUSAGE_SELF)
    function()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
