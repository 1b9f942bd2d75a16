"""Fixtures for every test."""

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO, TextIOWrapper
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from cellular_bench.benchmark.plan.run import Plan
    from cellular_bench.benchmark.results.store import Store
    from cellular_bench.benchmark.schema.records import RunRecord
    from cellular_bench.core.types import MetricSpec

# One compute thread per process, as in a run: for what is imported from here on, and for what plug-ins of
# pytest have imported already. Numba counts, because it sets the threads of the OpenMP that torch uses, too.
for _library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
threadpool_limits(1)
if "numba" in sys.modules:
    sys.modules["numba"].config.reload_config()

REPO = Path(__file__).resolve().parents[1]
#: More of them would need more memory than they save time: each imports scanpy, torch and the rest.
MOST_WORKERS = 4


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Spread folders over the cores; single files begin sooner in this process."""
    from cellular_bench.benchmark.execution.machine import usable_cores

    if all(argument.partition("::")[0].endswith(".py") for argument in config.args):
        return 0
    return min(usable_cores(), MOST_WORKERS)


@pytest.fixture(scope="session")
def repo() -> Path:
    """Root of the repository."""
    return REPO


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with reference data and golden numbers; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("CELLULAR_BENCH_SHARED", REPO.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip("reference data not found; set CELLULAR_BENCH_SHARED to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def plugin() -> Path:
    """A plug-in file with one healthy method and many broken ones."""
    return Path(__file__).parent / "plugins" / "zoo.py"


@dataclass(frozen=True)
class Done:
    """How a command line ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@contextmanager
def forgetting_plugins() -> "Iterator[None]":
    """Let this process know no plug-in afterwards that it did not know before, nor its metrics."""
    from cellular_bench.metrics import METRICS

    known, modules = dict(METRICS), set(sys.modules)
    try:
        yield
    finally:
        METRICS.clear()
        METRICS.update(known)
        for name in set(sys.modules) - modules:
            if name.startswith("cellular_bench_plugin_"):
                del sys.modules[name]


@pytest.fixture
def no_plugin_stays() -> "Iterator[None]":
    """Forget the metrics and plug-ins that a test makes known."""
    with forgetting_plugins():
        yield


@pytest.fixture(scope="session")
def run_benchmark() -> "Callable[..., Done]":
    """Carry out a command line as ``run-benchmark`` does, but in this process.

    An interpreter that has imported what a run needs takes seconds to start; this one has it already, and
    all runs are forked from one server. What needs a process is in ``tests/cli/test_processes.py``.
    """
    from cellular_bench.cli import main

    def run(*arguments: object, cwd: "Path | None" = None, **environment: str) -> Done:
        out, err = (TextIOWrapper(BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with (
            pytest.MonkeyPatch.context() as patch,
            forgetting_plugins(),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as end,
        ):
            patch.setattr(sys, "argv", ["run-benchmark", *map(str, arguments)])
            for name, value in environment.items():
                patch.setenv(name, value)
            if cwd is not None:
                patch.chdir(cwd)
            main()
        return Done(end.value.code, *(stream.buffer.getvalue().decode() for stream in (out, err)))

    return run


@pytest.fixture(scope="session")
def program() -> "list[str]":
    """The command ``run-benchmark`` as the words that start a process of it."""
    return [sys.executable, "-c", "from cellular_bench.cli import main; main()"]


@pytest.fixture(scope="session")
def wait_for() -> "Callable[..., None]":
    """Wait until a condition holds, which another process brings about."""

    def wait(condition: "Callable[[], object]", seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)

    return wait


class Silent:
    """Progress that nobody watches."""

    def started(self, run: object) -> None: ...

    def finished(self, record: object) -> None: ...


@pytest.fixture(scope="session")
def silent() -> Silent:
    """Progress that nobody watches."""
    return Silent()


@pytest.fixture(scope="session")
def small() -> dict:
    """The data of the small runs."""
    from cellular_bench.datasets import catalog

    return {"simulated_small": catalog.load(catalog.specs()["simulated_small"])}


@pytest.fixture(scope="session")
def planned(plugin, small) -> "Callable[..., Plan]":
    """Plan runs of some methods, those of a plug-in among them, on the small data, and no leak canary."""
    from cellular_bench.benchmark import registry
    from cellular_bench.benchmark.plan.planner import plan
    from cellular_bench.benchmark.schema.suite import Suite

    def make(
        *methods: object,
        split: object = "all",
        seeds: "tuple[int, ...]" = (0,),
        task: str = "annotation",
        plugin: Path = plugin,
        **limits: float,
    ) -> "Plan":
        block = {
            "task": task,
            "datasets": list(small),
            "methods": list(methods),
            "splits": [split],
            "seeds": list(seeds),
        }
        suite = Suite(suite_id="test", title="Test", blocks=[block], limits=limits, leak_canary=False)
        return plan(suite, datasets=small, methods=registry.methods([plugin]), plugins=[plugin])

    return make


@pytest.fixture(scope="session")
def carried_out(small, silent) -> "Callable[..., Store]":
    """Carry a plan out in a folder."""
    from cellular_bench.benchmark.execution.executor import Executor
    from cellular_bench.benchmark.results.store import Store

    def run(plan: "Plan", root: Path, **options: object) -> "Store":
        store = Store.create(root, plan.suite)
        executor = Executor(store=store, **{"n_jobs": 2, **options})
        for _ in executor.execute(plan, datasets=small, progress=silent):
            pass
        return store

    return run


def _beside(name: str) -> ModuleType:
    """Import a module that lies beside this file."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def hostile() -> ModuleType:
    """Makers of records of every shape with anything for a name; see ``tests/hostile.py``."""
    return _beside("hostile")


@pytest.fixture(scope="session")
def fidelity() -> ModuleType:
    """Cells on which the originals of our methods were run, and their outputs; see ``tests/fidelity.py``."""
    return _beside("fidelity")


# A small result folder, worked out by hand: every kind of row that a report must distinguish.

EVIL = "<script>alert('x')</script>|a*b"
SPECS = {
    "ilisi": ("iLISI", "batch_correction"),
    "kbet": ("kBET", "batch_correction"),
    "ari": ("ARI", "bio_conservation"),
    "clisi": ("cLISI", "bio_conservation"),
    "accuracy": ("Accuracy", "annotation"),
    "auroc": ("AUROC", "novelty"),
}


@pytest.fixture(scope="session")
def specs() -> "dict[str, MetricSpec]":
    """Metrics; ARI goes from -1 to 1."""
    from cellular_bench.core.types import MetricSpec

    fields: dict[str, Any] = {"function": float, "definition": "What <it> says.", "doi": "10.1000/xyz"}
    found = {}
    for metric_id, (name, aspect) in SPECS.items():
        least = -1.0 if metric_id == "ari" else 0.0
        given: dict[str, Any] = {"metric_id": metric_id, "name": name, "aspect": aspect, "minimum": least}
        found[metric_id] = MetricSpec(**(given | fields))
    return found


def _scores(values: Mapping[str, float | str]) -> list[dict[str, Any]]:
    """A text is a reason; its first word says what forbids the metric."""
    out = []
    for metric_id, value in values.items():
        score: dict[str, Any] = {"metric_id": metric_id, "aspect": SPECS[metric_id][1], "value": value}
        if isinstance(value, str):
            score |= {"value": None, "reason": value, "undefined_by": value.split()[0]}
        out.append(score)
    return out


@pytest.fixture(scope="session")
def make() -> "Callable[..., RunRecord]":
    """Return a function that makes a run of a method on a split."""
    from cellular_bench.benchmark.schema.records import RunRecord

    def record(name: str, split: int, values: Mapping[str, float | str], **changes: Any) -> "RunRecord":
        method_id = "".join(filter(str.isalnum, name.lower()))[:12]
        method = {"method_id": method_id, "name": name, "version": 1, "params": {"k": 5, "alpha": 0.5}}
        method["inductive"] = True
        fields: dict[str, Any] = {
            "suite_id": "core",
            "task": "integration",
            "dataset": {
                "dataset_id": "toy", "title": "Toy & co", "digest": "f00d" * 16, "n_obs": 1200,
                "n_vars": 300, "n_batches": 2, "n_labels": 3, "doi": "https://doi.org/10.1000/toy",
            },
            "split": {
                "split_id": f"fold-{split}", "kind": "kfold", "digest": f"{split}" * 64,
                "n_train": 960, "n_test": 240, "seed": 7,
            },
            "seed": 3,
            "status": "ok",
            "scores": _scores(values),
            "cost": {"wall_time_s": 10.0 + split, "cpu_time_s": 8.0, "peak_rss_mib": 1500.0},
            "environment": {
                "python": "3.11.7", "platform": "Linux", "cpu": "a CPU", "n_cpus": 2, "n_threads": 1,
                "packages": {"numpy": "2.1.0"}, "git_commit": "c0ffee" * 6, "git_dirty": True,
            },
            "started_at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
            "finished_at": datetime(2026, 1, 2, 3, 5, tzinfo=UTC),
        }  # fmt: skip
        fields |= {"method": method | changes.pop("method", {})} | changes
        fields["run_id"] = f"{fields['task']}-{method_id}-{split}"
        return RunRecord(**fields)

    return record


@pytest.fixture(scope="session")
def records(make: "Callable[..., RunRecord]") -> "list[RunRecord]":
    """Two splits of seven methods on an integration board; annotation and novelty boards of one run."""
    trained, control = {"labels": "train"}, {"is_control": True, "inductive": False}
    crash = {"status": "failed", "reason": "ValueError: <b>bad</b> | input", "log_tail": "a < b\nlast line"}
    no_cost = {"cost": None}
    found = []
    for split, up in enumerate((0.0, 0.2)):
        plain = {"ilisi": 0.5 + up, "kbet": 0.3 + up, "ari": 0.2, "clisi": 0.8}
        found += [
            make("Harmony", split, plain, method={"inductive": False}),
            make("PCA", split, {"ilisi": 0.1, "kbet": 0.1, "ari": 0.2, "clisi": 0.8}),
            make("CELLULAR", split, {"ilisi": 0.9, "kbet": 0.9, "ari": 0.8, "clisi": 0.9}, method=trained),
            make(EVIL, split, plain | {"kbet": "data only one batch"}),
            make("Flat", split, plain | {"clisi": "output all cells coincide"}),
            make("Shuffled", split, plain | {"clisi": 0.0}, method=control),
        ]
    found.append(make("Crasher", 0, {"ilisi": 0.99, "kbet": 0.99, "ari": 0.99, "clisi": 0.99}))
    found.append(make("Crasher", 1, {}, **crash, **no_cost))
    labels = [
        {"label": "alpha", "support": 30, "n_predicted": 31, "precision": 0.9, "recall": 0.8, "f1": 0.85},
        {"label": "rare <1>", "support": 0, "n_predicted": 0, "precision": None, "recall": None, "f1": None},
    ]
    found.append(make("SciBet", 0, {"accuracy": 0.91}, task="annotation", per_label=labels, method=trained))
    found.append(make("SciBet", 0, {"auroc": 0.75}, task="novelty", warnings=["slow | <i>"], method=trained))
    return found


@pytest.fixture(scope="session")
def report(
    records: "list[RunRecord]", specs: "dict[str, MetricSpec]", tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder with the report of those runs."""
    from cellular_bench.reports import build_report, write

    out = tmp_path_factory.mktemp("out") / "new" / "folder"
    write(build_report(records, specs, title="Toy <results>"), out)
    return out
