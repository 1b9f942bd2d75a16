"""Cells reach a program in another environment exactly, and only its cells in its order come back."""

import json
import os
import re
import sys
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import psutil
import pytest
from scipy.sparse import csr_matrix

from cellular_bench.benchmark import registry
from cellular_bench.core.errors import ContractError, NotApplicableError, ProgramError, UserError
from cellular_bench.core.types import MethodSpec
from cellular_bench.environments import building, exchange, find, run_inside, state, status

DECLARATION = """
title = "Here"

[python]
version = "3.11"
requirements = ["numpy==2.4.6", "h5py==3.16.0"]
"""
WITH_R = """
title = "R with what it takes to exchange files"

[r]
version = "4.0"
packages = { Matrix = "1.2", rhdf5 = "2.30.0", jsonlite = "1.6" }
"""
X = np.array([[0, 1.5, 0], [0, 0, 0], [1e-7, 0, 2 / 3], [0, 0, -4]], dtype=np.float32)
COUNTS = np.array([[0, 3, 0], [0, 0, 0], [1, 0, 2**24], [7, 0, 0]], dtype=np.float32)
CELLS = ["10", "9", "zelle ä", "a,b"]
GENES = ["b_gene", "A-gene", "Ω"]


def cells(*, labels: bool = True) -> anndata.AnnData:
    obs = {"batch": pd.Categorical(["two", "one", "two", "one"])}
    if labels:
        obs["label"] = pd.Categorical(["T cell, CD4+", "B", "B", "λδ"])
    return anndata.AnnData(
        csr_matrix(X),
        obs=pd.DataFrame(obs, index=CELLS),
        var=pd.DataFrame(index=GENES),
        layers={"counts": csr_matrix(COUNTS)},
    )


def fake(path: Path, declaration: str = DECLARATION) -> Path:
    """Declare an environment that is this interpreter, started as another would be."""
    path.write_text(declaration, encoding="utf-8")
    python = status.python_in(status.place(find(str(path))))
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    facts = {"python": "3.11.0", "packages": {"numpy": np.__version__, "h5py": h5py.__version__}}
    (status.place(find(str(path))) / status.MARKER).write_text(json.dumps(facts), encoding="utf-8")
    return path


def documented(repo: Path, language: str) -> list[str]:
    """Return the examples of the document, in the order in which they are there."""
    text = (repo / "docs" / "environments.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """Run the text of a program on cells, in a fake environment."""
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    environment = fake(tmp_path / "here.toml")

    def run(program: str, *, query=None, train=None, **more):
        file = tmp_path / "program.py"
        file.write_text(program, encoding="utf-8")
        spec = MethodSpec(
            method_id="echo",
            name="Echo",
            tasks=("integration",),
            environment=str(environment),
            program=str(file),
        )
        return run_inside(spec, query=cells() if query is None else query, train=train, **more)

    return run


ECHO = """
import numpy as np

def run(train, query, *, seed, scale):
    assert train is None or train.label is not None
    dense = query.X.toarray()
    assert dense.dtype == np.float32 and (query.X.toscipy().toarray() == dense).all()
    columns = [query.batch == "two", query.label == "B", query.var_names == "A-gene"[: query.X.shape[1] * 9]]
    return {"X_emb": np.hstack([dense * scale, query.counts.toarray(), np.full((4, 1), seed)]),
            "label_pred": query.label, "rejected": query.batch == "two"}
"""


def test_matrices_names_and_parameters_arrive_exactly(inside):
    found = inside(ECHO, seed=7, params={"scale": 2.0})
    np.testing.assert_array_equal(found.X_emb, np.hstack([X * 2, COUNTS, np.full((4, 1), 7)]))
    assert found.X_emb.dtype == np.float64
    assert found.obs_names.tolist() == CELLS
    assert found.label_pred.tolist() == ["T cell, CD4+", "B", "B", "λδ"]
    assert found.rejected.tolist() == [True, False, True, False]


def test_what_is_unsorted_or_dense_arrives_the_same(inside):
    query = cells()
    query.X = csr_matrix(
        (np.float32([2 / 3, 1e-7, 1.5, -4]), [2, 0, 1, 2], [0, 0, 0, 2, 4]), shape=(4, 3)
    )  # row 2 backwards
    query.layers["counts"] = COUNTS
    program = (
        "def run(train, query, *, seed):\n    return {'X_emb': query.X.toarray() + query.counts.toarray()}"
    )
    expected = query.X.toarray() + COUNTS
    assert expected[2, 2] == np.float32(2 / 3) + 2**24
    np.testing.assert_array_equal(inside(program, query=query).X_emb, expected)
    assert not query.X.has_sorted_indices


def test_labels_reach_the_program_only_where_they_are_shown(inside):
    program = """
def run(train, query, *, seed):
    assert query.label is None and query.counts is None
    return {"label_pred": train.label[::-1]}
"""
    query = cells(labels=False)
    del query.layers["counts"]
    assert inside(program, query=query, train=cells()).label_pred.tolist() == ["λδ", "B", "B", "T cell, CD4+"]


def test_the_environment_sees_nothing_of_this_one(inside, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    program = f"""
import os, sys
import numpy as np

def run(train, query, *, seed):
    assert {str(tmp_path / "elsewhere")!r} not in sys.path
    assert not any(path.endswith("environments") for path in sys.path)
    assert os.environ["PYTHONHASHSEED"] == "0"
    open("left-over", "w").close()
    return {{"X_emb": np.zeros((4, 1))}}
"""
    assert inside(program).X_emb.sum() == 0
    assert not Path("left-over").exists()


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("return {'X_emb': query.X.toarray()[::-1], 'obs_names': query.obs_names[::-1]}", ContractError,
         "returned the cells in another order: row 0 is 'a,b', expected '10'"),
        ("return {'X_emb': query.X.toarray()[1:], 'obs_names': query.obs_names[1:]}", ContractError,
         "returned 3 cells, 3 of them among the 4 of the query"),
        ("return {'embedding': query.X.toarray()}", ProgramError,
         "ValueError: run returned embedding; known are obs_names"),
        ("raise KeyError('gone')", ProgramError,
         r"echo in its environment 'here': KeyError: 'gone' \(program.py, line 4\)"),
        ("from cellular_bench_inside import NotApplicable; raise NotApplicable('only for brains')",
         NotApplicableError, "echo: only for brains"),
        ("raise MemoryError('42 TiB')", MemoryError, "Memory ran out: 42 TiB"),
        ("os._exit(3)", ProgramError, "ended without a result: exit code 3"),
        ("os.kill(os.getpid(), 9)", ProgramError,
         "killed by SIGKILL, for example because the machine ran out of memory"),
    ],
)  # fmt: skip
def test_each_end_is_told_apart(inside, body, error, message):
    with pytest.raises(error, match=message):
        inside(f"import os\n\ndef run(train, query, *, seed):\n    {body}\n")


def test_a_result_that_cannot_be_read_says_so(inside):
    with pytest.raises(UserError, match="does not hold the outputs of a run"):
        inside(
            "def run(train, query, *, seed):\n"
            "    return {'X_emb': [[object()], [1], [2], [3]]}"  # only a pickle could hold it
        )


def test_a_table_from_r_is_read_exactly(tmp_path):
    path = tmp_path / "result.csv"
    path.write_text(
        '"cell","X_emb:1","X_emb:2","label_pred",'
        '"label_proba:B","label_proba:T cell, CD4+","novelty","rejected"\n'
        '"a,b",0.10000000000000001,-1e-300,"T cell, CD4+",0.25,0.75,NA,"True"\n'
        '"zelle ""ä""",3,4,"B",1,0,0.5,"False"\n',
        encoding="utf-8",
    )
    found = exchange.read_table(path)
    np.testing.assert_array_equal(found.X_emb, [[0.1, -1e-300], [3, 4]])
    np.testing.assert_array_equal(found.label_proba, [[0.25, 0.75], [1, 0]])
    assert found.labels.tolist() == ["B", "T cell, CD4+"]
    assert found.label_pred.tolist() == ["T cell, CD4+", "B"]
    assert found.obs_names.tolist() == ["a,b", 'zelle "ä"']
    np.testing.assert_array_equal(found.novelty, [np.nan, 0.5])
    assert found.rejected.tolist() == [True, False]


@pytest.mark.r
def test_the_documented_program_in_r_runs(repo, tmp_path):
    environment, program = tmp_path / "r.toml", tmp_path / "program.R"
    environment.write_text(documented(repo, "toml")[1], encoding="utf-8")
    program.write_text(documented(repo, "r")[0].replace("< 10", "< 4"), encoding="utf-8")
    found = state(find(str(environment)))
    if not found.is_ready:
        pytest.skip(status.missing_text(found))
    spec = MethodSpec(
        method_id="r", name="R", tasks=("integration",), environment=str(environment), program=str(program)
    )
    X_emb = run_inside(spec, query=cells(), params={"n_components": 2}).X_emb
    singular = np.linalg.svd((X - X.mean(axis=0)).astype(float), compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(X_emb, axis=0), singular[:2], rtol=1e-6)


R_ECHO = """
run <- function(train, query, seed, params) {
  if (params$decline) not_applicable("only for brains")
  if (params$fail) stop("no luck today")
  stopifnot(is.null(train), identical(rownames(query$X), c("b_gene", "A-gene", "\\u03a9")))
  dense <- t(as.matrix(query$X))
  proba <- matrix(c(1 / 3, 2 / 3), 4, 2, byrow = TRUE, dimnames = list(NULL, c("B", "T cell, CD4+")))
  list(
    cells = colnames(query$X)[unlist(params$order) + 1],
    X_emb = cbind(dense * params$scale, t(as.matrix(query$counts)), seed),
    label_pred = query$label, label_proba = proba,
    novelty = c(0.1, 1e-17, pi, 2), rejected = query$batch == "two"
  )
}
"""


@pytest.fixture
def in_r(tmp_path):
    environment, program = tmp_path / "with_r.toml", tmp_path / "program.R"
    environment.write_text(WITH_R, encoding="utf-8")
    program.write_text(R_ECHO, encoding="utf-8")
    found = state(find(str(environment)))
    if not found.is_ready:
        pytest.skip(status.missing_text(found))
    spec = MethodSpec(
        method_id="echo",
        name="Echo",
        tasks=("integration",),
        environment=str(environment),
        program=str(program),
    )

    def run(**params: object):
        given = {"decline": False, "fail": False, "scale": 2.0, "order": [0, 1, 2, 3], **params}
        return run_inside(spec, query=cells(), seed=7, params=given)

    return run


@pytest.mark.r
def test_matrices_names_and_parameters_arrive_in_r_exactly(in_r):
    found = in_r()
    np.testing.assert_array_equal(found.X_emb, np.hstack([X.astype(float) * 2, COUNTS, np.full((4, 1), 7)]))
    assert found.label_pred.tolist() == ["T cell, CD4+", "B", "B", "λδ"]
    np.testing.assert_array_equal(found.label_proba, [[1 / 3, 2 / 3]] * 4)
    assert found.labels.tolist() == ["B", "T cell, CD4+"]
    np.testing.assert_array_equal(found.novelty, [0.1, 1e-17, np.pi, 2])
    assert found.rejected.tolist() == [True, False, True, False]


@pytest.mark.r
@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"order": [1, 0, 2, 3]}, ContractError, "in another order: row 0 is '9', expected '10'"),
        ({"decline": True}, NotApplicableError, "echo: only for brains"),
        ({"fail": True}, ProgramError, "no luck today"),
    ],
)
def test_each_end_in_r_is_told_apart(in_r, params, error, message):
    with pytest.raises(error, match=message):
        in_r(**params)


def test_the_documented_method_runs(repo, tmp_path, monkeypatch):
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(tmp_path / "cache"))
    fake(tmp_path / "my_environment.toml", documented(repo, "toml")[0])
    program, plugin = documented(repo, "python")
    (tmp_path / "my_program.py").write_text(program, encoding="utf-8")
    (tmp_path / "my_method.py").write_text(plugin, encoding="utf-8")
    method = registry.method("my_method", [tmp_path / "my_method.py"])
    X_emb = method.factory(n_components=2).fit_embed(cells())
    centred = X - X.mean(axis=0)
    np.testing.assert_allclose(
        np.linalg.norm(X_emb, axis=0), np.linalg.svd(centred, compute_uv=False)[:2], rtol=1e-5
    )


PLUGIN = '''
import os
from dataclasses import replace
from pathlib import Path
from cellular_bench import MethodSpec, run_inside

HERE = Path(__file__).parent
os.environ["CELLULAR_BENCH_CACHE"] = str(HERE / "cache")


class Away:
    """Half of the expression, by another interpreter."""
    spec = MethodSpec(method_id="away", name="Away", tasks=("integration",), description="-",
                      environment=str(HERE / "here.toml"), program=str(HERE / "away.py"))

    def __init__(self, *, what="halve", seed=0):
        self.what, self.seed = what, seed

    def fit_embed(self, adata):
        return run_inside(self.spec, query=adata, seed=self.seed, params={"what": self.what}).X_emb


class Nowhere(Away):
    spec = replace(Away.spec, method_id="nowhere", environment=str(HERE / "nowhere.toml"))
'''
AWAY = """
import os, subprocess, sys, time
import numpy as np

def run(train, query, *, seed, what):
    print("hello from away")
    if what == "hang":
        open(os.path.join(os.path.dirname(__file__), "pid"), "w").write(str(os.getpid()))
        time.sleep(600)
    if what == "hoard":
        hoard = [np.ones(2_000_000) for _ in range(60)]
        time.sleep(1.5)
    if what == "work":
        ends = time.process_time() + 1.0
        while time.process_time() < ends:
            pass
    return {"X_emb": query.X.toarray() / 2}
"""


@pytest.fixture
def away(planned, carried_out, tmp_path, monkeypatch):
    """Run a plug-in whose method lives in a fake environment, by the harness."""
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(tmp_path / "cache"))
    environment = fake(tmp_path / "here.toml")
    (tmp_path / "nowhere.toml").write_text(environment.read_text().replace("3.16.0", "3.17.0"))
    (tmp_path / "away.py").write_text(AWAY, encoding="utf-8")
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN, encoding="utf-8")

    def run(method_id: str = "away", what: str = "halve", **limits: float):
        choice = {"method_id": method_id, "params": {"what": what}}
        plan = planned(choice, task="integration", plugin=plugin, **limits)
        record = carried_out(plan, tmp_path / "out").record(plan.runs[0].run_id)
        assert record is not None
        return record

    return run


def test_a_run_elsewhere_is_scored_and_its_costs_are_those_of_all_processes(away):
    record = away(what="work")
    assert record.status == "ok", record.reason
    assert record.value("silhouette_label") is not None
    assert 1.0 < record.cost.cpu_time_s < 20.0
    hoarded = away(what="hoard")
    assert hoarded.cost.peak_rss_mib > record.cost.peak_rss_mib + 700


def test_a_missing_environment_is_not_applicable_and_names_the_command(away, tmp_path):
    record = away("nowhere")
    assert record.status == "not_applicable"
    assert record.reason == (
        "Needs the environment 'nowhere': it has not been created. "
        f"Fix: run-benchmark env create {tmp_path / 'nowhere.toml'}"
    )


def test_a_run_that_found_no_environment_is_done_once_there_is_one(away, tmp_path):
    missed = away("nowhere")
    assert missed.method.packages["environment nowhere"] == "missing"
    fake(tmp_path / "nowhere.toml", DECLARATION.replace("3.16.0", "3.17.0"))
    done = away("nowhere")
    assert done.status == "ok", done.reason
    assert done.method.packages["Python"] == "3.11.0"
    assert done.method.packages["h5py"] == h5py.__version__
    assert [path.parent.name for path in (tmp_path / "out").glob("runs/*/record.json")] == [done.run_id]


def test_limits_hold_for_what_a_method_starts(wait_for, away, tmp_path):
    record = away(what="hang", time_limit_s=8)
    assert record.status == "timeout"
    assert "hello from away" in record.log_tail
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not psutil.pid_exists(pid), seconds=5)
    assert away(what="hoard", memory_limit_mib=800).status == "out_of_memory"


def test_another_program_is_another_method(away, tmp_path):
    first = away().run_id
    (tmp_path / "away.py").write_text(AWAY + "# edited\n", encoding="utf-8")
    assert away().run_id != first


def test_a_spec_needs_both_environment_and_program(tmp_path):
    plugin = tmp_path / "half.py"
    plugin.write_text(PLUGIN.replace(', program=str(HERE / "away.py")', ""), encoding="utf-8")
    with pytest.raises(
        UserError, match=r"spec.program is None; it must be the name or path of a program where"
    ):
        registry.methods([plugin])
    plugin.write_text(PLUGIN.replace("away.py", "none.py"), encoding="utf-8")
    with pytest.raises(UserError, match=r"its program .*none.py cannot be read: No such file"):
        registry.methods([plugin])
    assert os.environ["CELLULAR_BENCH_CACHE"]


@pytest.mark.network
def test_an_environment_of_real_packages_is_built_and_gives_the_same_as_this_one(inside, tmp_path):
    echo = ECHO.replace(" and (query.X.toscipy().toarray() == dense).all()", "")  # there is no SciPy in it
    expected = inside(echo, seed=7, params={"scale": 2.0})
    declaration = tmp_path / "built.toml"
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    requirements = f'["numpy=={np.__version__}", "h5py=={h5py.__version__}"]'
    declaration.write_text(f'title = "Built"\n[python]\nversion = "{here}"\nrequirements = {requirements}\n')
    building.create(find(str(declaration)), installer="pip", say=print)
    spec = MethodSpec(
        method_id="echo",
        name="Echo",
        tasks=("integration",),
        environment=str(declaration),
        program=str(tmp_path / "program.py"),
    )
    found = run_inside(spec, query=cells(), train=None, seed=7, params={"scale": 2.0})
    np.testing.assert_array_equal(found.X_emb, expected.X_emb)
    ready = state(find(str(declaration)))
    assert (ready.versions["numpy"], ready.versions["h5py"]) == (np.__version__, h5py.__version__)
    assert building.remove(find(str(declaration)))
    with pytest.raises(NotApplicableError, match="has not been created"):
        run_inside(spec, query=cells(), train=None, seed=7, params={"scale": 2.0})
