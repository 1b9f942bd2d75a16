"""What happens before the clock starts: imports and a first call, on made-up cells alone."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution import warm_up as module
from cellular_bench.benchmark.execution.views import Cells, views
from cellular_bench.benchmark.execution.warm_up import made_up, warm_up
from cellular_bench.benchmark.execution.worker import seed_everything
from cellular_bench.benchmark.registry import Method
from cellular_bench.benchmark.tasks import ANNOTATION, INTEGRATION
from cellular_bench.core.errors import NotApplicableError, UserError
from cellular_bench.core.layers import named_layers
from cellular_bench.core.types import MethodSpec
from cellular_bench.methods.actinn import ACTINN
from cellular_bench.methods.scgen import ScGen

GENES = [f"ENSG{i}" for i in range(70)]
#: Methods whose first call takes more than ten seconds, or which train for seconds.
SLOW = {"celltypist_majority", "concord", "drvi", "scanvi", "scanvi_surgery", "scvi", "scvi_surgery", "sysvi"}
SLOW |= {
    "bbknn",
    "scnym",
    "scnym_mixmatch",
    "tosica",
    "scgen_paper",
    "cellular_centroid",
    "cellular_contrastive",
}


def fake(act=None, **facts):
    """Return a method that keeps what it sees."""
    seen = []

    class Fake:
        spec = MethodSpec(
            method_id="fake",
            name="Fake",
            tasks=("annotation",),
            **{"inductive": True, "labels": "train"} | facts,
        )
        artifacts = None

        def __init__(self, *, seed=0, **params):
            self.params = params

        def fit(self, train):
            self.train = train

        def predict(self, query):
            seen.append((self.train, query, self.params, Path.cwd(), self.artifacts))
            if act is not None:
                act()

    return Method(spec=Fake.spec, factory=Fake, origin="here"), seen


def test_a_method_sees_made_up_cells_once_in_a_folder_that_goes():
    method, seen = fake(warm_up=300, check_params={"epochs": 2})
    here = Path.cwd()
    found = warm_up(method, {"epochs": 400, "k": 5}, ANNOTATION, n_obs=1000, genes=GENES)
    ((train, query, params, folder, artifacts),) = seen
    assert train.shape == query.shape == (300, 70)
    assert list(train.var_names) == GENES
    assert set(train.obs["label"]) == {"type1", "type2", "type3"}
    assert list(query.obs) == ["batch"]
    assert {"counts"} == set(named_layers(train))
    assert params == {"epochs": 2, "k": 5}
    assert folder == artifacts.resolve() != here == Path.cwd()
    assert not folder.exists()
    assert found is None


@pytest.mark.parametrize(
    ("declared", "n_obs", "n_cells"), [(240, 20, 240), (9000, 300, 300), (9000, 9999, 9000)]
)
def test_there_are_no_more_cells_than_the_run_has(declared, n_obs, n_cells):
    method, seen = fake(warm_up=declared)
    warm_up(method, {}, ANNOTATION, n_obs=n_obs, genes=GENES)
    assert seen[0][1].n_obs == n_cells


@settings(deadline=None, max_examples=20)
@given(n_cells=st.integers(30, 3000), n_genes=st.integers(1, 3000))
def test_made_up_cells_have_the_form_of_real_ones_and_fit_into_memory(n_cells, n_genes):
    adata = made_up(n_cells, [f"g{i}" for i in range(n_genes)])
    assert adata.n_obs == n_cells
    assert adata.n_vars == min(n_genes, 1_000_000 // n_cells)
    assert adata.X.dtype == np.float32
    np.testing.assert_allclose(np.expm1(adata.X.toarray()).sum(axis=1), 1e4, rtol=1e-3)


def test_a_method_that_declares_nothing_is_not_called():
    method, seen = fake()
    assert warm_up(method, {}, ANNOTATION, n_obs=100, genes=GENES) is None
    assert seen == []


def raising(error):
    def act():
        raise error

    return act


@pytest.mark.parametrize(
    "error",
    [RuntimeError("too few"), NotApplicableError("too few"), MemoryError("too few"), SystemExit("too few")],
)
def test_a_failure_is_noted_and_goes_no_further(error):
    method, _ = fake(raising(error), warm_up=240)
    found = warm_up(method, {}, ANNOTATION, n_obs=100, genes=GENES)
    assert found == f"{type(error).__name__}: too few"


def test_members_are_warmed_up_as_they_declare(monkeypatch):
    called = []
    monkeypatch.setattr(
        module, "_run", lambda method, params, task, adata: called.append((method.spec.method_id, params))
    )
    ensemble = registry.method("ensemble")
    params = {"methods": ["knn", "actinn"], "reject_below": 0.0}
    warm_up(ensemble, params, ANNOTATION, n_obs=100, genes=GENES)
    assert called == [("actinn", ACTINN.spec.check_params)]


@pytest.mark.parametrize("value", [True, -1, "240", None, 2.5])
def test_something_else_than_a_number_of_cells_is_refused(value):
    spec = MethodSpec(method_id="m", name="M", tasks=("integration",), warm_up=value)
    with pytest.raises(
        UserError, match=r"spec.warm_up is .*; it must be a number of cells, such as 240; 0 for none"
    ):
        registry.check_spec(spec, "here")


def outputs(method_id, task, params, data):
    """Run a method as a worker does after seeding, and add what the global generators give then."""
    method = registry.method(method_id)
    cells = Cells(
        train_obs=np.arange(150), test_obs=np.arange(150, 200), highly_variable=np.ones(data.n_vars, bool)
    )
    train, query = views(data, cells, method.spec)
    seed_everything(7)
    found = task.read(
        method_id,
        task.call(method.spec, method.factory(seed=3, **params), train, query),
        query.obs_names,
        query.var_names,
    )
    return [*found.arrays().values(), np.array([random.random(), np.random.random()])]  # noqa: NPY002


@pytest.mark.parametrize(
    ("method_id", "task", "params"),
    [
        ("actinn", ANNOTATION, ACTINN.spec.check_params),
        ("scgen", INTEGRATION, ScGen.spec.check_params),
        ("cellular", INTEGRATION, {"max_epochs": 3}),
        pytest.param("bbknn", INTEGRATION, {}, marks=pytest.mark.slow),
    ],
)
def test_numbers_are_the_same_with_and_without(method_id, task, params):
    data = made_up(200, [f"g{i}" for i in range(60)])[::-1].copy()
    before = outputs(method_id, task, params, data)
    found = warm_up(registry.method(method_id), params, task, n_obs=50, genes=GENES)
    assert found is None
    for first, second in zip(before, outputs(method_id, task, params, data), strict=True):
        if first.dtype.kind == "f" and hasattr(first, "toarray"):
            first, second = first.toarray(), second.toarray()
        np.testing.assert_array_equal(first, second)


#: What each method imports and compiles after it was warmed up, in a process forked for it alone.
_PROGRAM = """
import io, json, os, sys, warnings
warnings.simplefilter("ignore")
import cellular_bench.benchmark.execution.preload
from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution.views import Cells, views
from cellular_bench.benchmark.execution.warm_up import made_up, warm_up
from cellular_bench.benchmark.tasks import TASKS
import numpy as np

data = made_up(260, [f"g{i}" for i in range(90)])
cells = Cells(train_obs=np.arange(260), test_obs=np.arange(260), highly_variable=np.ones(90, dtype=bool))
for name in sys.argv[1:]:
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        os.wait()
        print(os.fdopen(reader).read() or json.dumps([name, "died", 0]), flush=True)
        continue
    method = registry.method(name)
    task = TASKS[method.spec.tasks[0]]
    params = {**method.defaults, **method.spec.check_params}
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 1)
        error = warm_up(method, params, task, n_obs=260, genes=data.var_names)
        numba = sys.modules.get("numba.core.event")
        compiled = numba.install_recorder("numba:compile") if numba else None
        with (compiled or io.StringIO()) as events:
            modules = set(sys.modules)
            train, query = views(data, cells, method.spec)
            task.call(method.spec, method.factory(seed=0, **params), train, query)
            new = len(set(sys.modules) - modules)
            n_compiled = len(compiled and events.buffer or ())
    os.write(writer, json.dumps([name, error, new, n_compiled]).encode())
    os._exit(0)
"""


def here(*, slow):
    """Return the methods of this package that run here, without the slow ones or those alone."""
    for name, method in registry.methods().items():
        own = method.origin == "built in" and method.spec.environment is None and not method.spec.needs_params
        if own and not method.missing_modules() and (name in SLOW) == slow:
            yield name


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_nothing_is_compiled_and_little_is_imported_while_the_clock_runs(slow):
    names = list(here(slow=slow))
    program = [sys.executable, "-c", _PROGRAM, *names]
    lines = subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()
    found = {name: facts for name, *facts in map(json.loads, lines)}
    assert list(found) == names
    # Hundreds of modules took the time of several calls; some of sklearn take none that matters.
    assert {name: facts for name, facts in found.items() if facts[0] or facts[1] > 60 or facts[2]} == {}


_PLUGIN = '''
import time
import numpy as np
from cellular_bench import MethodSpec, Prediction


def spec(method_id, **more):
    given = {"tasks": ("annotation",), "labels": "train", "inductive": True, "warm_up": 240}
    return MethodSpec(method_id=method_id, name=method_id, **(given | more))


class Greedy:
    """Needs 600 MiB and writes a file at its first call; counts its calls by the label."""

    spec = spec("greedy")
    n_calls = 0

    def __init__(self, *, seed=0):
        pass

    def fit(self, train):
        if not Greedy.n_calls:
            np.ones(600 * 2**17).sum()
            open("left_behind", "w").close()

    def predict(self, query):
        Greedy.n_calls += 1
        return Prediction(label_pred=np.full(query.n_obs, f"type{Greedy.n_calls}"))


class Cold(Greedy):
    spec = spec("cold", warm_up=0)


class Hangs(Greedy):
    spec = spec("hangs")

    def fit(self, train):
        time.sleep(3600)


class Picky(Greedy):
    spec = spec("picky")

    def fit(self, train):
        if train.n_obs == 240:
            raise ValueError("240 cells are not for me")
'''


@pytest.fixture(scope="module")
def records(planned, carried_out, tmp_path_factory):
    """Records of methods that behave otherwise at their first call."""
    folder = tmp_path_factory.mktemp("warm")
    plugin = folder / "first_calls.py"
    plugin.write_text(_PLUGIN)
    split = {"kind": "reference_query", "reference": ["batch1"]}
    found = {}
    for number, (names, limit) in enumerate([(["greedy", "cold", "picky"], 120), (["hangs"], 3)]):
        made = planned(*names, plugin=plugin, split=split, time_limit_s=limit, memory_limit_mib=4000)
        store = carried_out(made, folder / f"out{number}", n_jobs=1)
        found |= {record.method.method_id: record for record in store.records()}
    return found


def test_a_record_holds_the_costs_of_a_later_call_and_says_what_came_before(records):
    greedy, cold = records["greedy"], records["cold"]
    assert [record.status for record in (greedy, cold)] == ["ok", "ok"], (greedy.reason, cold.reason)
    assert set(predicted(greedy)) == {"type2"}, "the second call was measured"
    assert set(predicted(cold)) == {"type1"}
    assert greedy.cost.warm_up_s > 0
    assert greedy.cost.warm_up_error is None
    assert cold.cost.peak_rss_mib > greedy.cost.peak_rss_mib + 400, (
        "the memory of the first call is forgotten"
    )
    assert greedy.cost.peak_rss_mib >= greedy.cost.baseline_rss_mib > 0


def predicted(record):
    return [name for row in record.confusion.values() for name, n in row.items() if n]


def test_a_failed_warm_up_is_in_the_record_of_a_run_that_goes_on(records):
    assert records["picky"].status == "ok"
    assert records["picky"].cost.warm_up_error == "ValueError: 240 cells are not for me"
    assert set(predicted(records["picky"])) == {"type1"}


def test_the_time_limit_holds_for_warming_up(records):
    assert records["hangs"].status == "timeout"
    assert records["hangs"].reason == "Still running after the time limit of 3 s."
    assert records["hangs"].cost.warm_up_s is None
