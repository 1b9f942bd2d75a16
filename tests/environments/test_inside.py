"""Cells reach a program in another environment exactly, and only its cells in its order come back."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.isolation import sandbox
from cellular_bench.core.errors import BenchError, ContractError, NotApplicableError, ProgramError, UserError
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


def test_the_canonical_order_depends_on_the_values_of_cells_alone(inside):
    text = """
def run(train, query, *, seed):
    order = query.canonical()
    return {"label_pred": query.label[order], "X_emb": query.counts.toarray()[order]}
"""
    first = inside(text, query=cells())
    moved = cells()[[2, 0, 3, 1]].copy()
    moved.obs_names = ["d", "c", "b", "a"]
    second = inside(text, query=moved)
    np.testing.assert_array_equal(first.X_emb, second.X_emb)
    np.testing.assert_array_equal(first.label_pred, second.label_pred)
    assert sorted(first.label_pred) == sorted(cells().obs["label"].astype(str))


def test_a_graph_comes_back_with_its_distances(inside):
    outputs = inside(
        """
from scipy.sparse import coo_matrix


def run(train, query, *, seed):
    links = coo_matrix(([0.5, 1.0, 0.25], ([3, 0, 3], [2, 1, 0])), shape=(4, 4))
    return {"graph": links, "graph_distances": links * 2}
""",
        query=cells(),
    )
    expected = np.array([[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0.25, 0, 0.5, 0]])
    np.testing.assert_array_equal(outputs.graph.toarray(), expected)
    np.testing.assert_array_equal(outputs.graph_distances.toarray(), 2 * expected)


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
    with pytest.raises(ProgramError, match=r"'here': result.npz does not hold the outputs of a run"):
        inside(
            "def run(train, query, *, seed):\n"
            "    return {'X_emb': [[object()], [1], [2], [3]]}"  # only a pickle could hold it
        )


def answering(content: object) -> str:
    """A program that writes the answer of its side, without the result that this would need."""
    return f"""
import json, os, sys

def run(train, query, *, seed):
    message = json.load(open(sys.argv[1]))["message"]
    content = {content!r}
    if content is None:
        os.mkfifo(message)
    elif content == "link":
        os.symlink("/etc/hostname", message)
    elif content == "folder":
        os.mkdir(message)
    else:
        open(message, "wb").write(content)
    os._exit(0)
"""


@pytest.mark.parametrize(
    "content",
    [None, "link", "folder", b"", b"{", b"\xff", b"[]", b"null", b'{"status": "ok"}',
     b'{"status": ["ok"], "reason": ""}', b'{"status": "failed", "reason": {}}', b"[" * 40_000,
     b'{"status": "failed", "reason": "' + b"x" * 70_000 + b'"}'],
)  # fmt: skip
def test_an_answer_of_any_content_is_the_failure_of_its_run(inside, content):
    with pytest.raises(ProgramError, match=r"echo in its environment 'here': its message.json "):
        inside(answering(content))


@pytest.mark.parametrize("status", ["failed", "not_applicable", "done", ""])
def test_a_reason_of_any_length_is_one_line(inside, status):
    content = json.dumps({"status": status, "reason": "two\n\x1b[31mlines" * 3000})
    with pytest.raises(BenchError) as caught:
        inside(answering(content.encode()))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 800


def test_a_long_reason_arrives_in_part(inside):
    with pytest.raises(ProgramError, match="ValueError: xxxx"):
        inside("def run(train, query, *, seed):\n    raise ValueError('x' * 10**6)")


@pytest.mark.parametrize(
    "instead",
    [
        "os.mkfifo(path)",
        "os.symlink('/dev/zero', path)",
        "os.symlink(__file__, path)",
        "os.mkdir(path)",
        "open(path, 'wb').write(b'PK garbage')",
        "None",
        "kept(path, X_emb=np.zeros((4, 1)))",
        "kept(path, obs_names=np.zeros(4), X_emb=np.zeros((4, 1)))",
    ],
)
def test_a_result_of_any_kind_is_the_failure_of_its_run(inside, instead):
    program = (
        "import os\nimport numpy as np\nkept = np.savez\n"
        f"np.savez = lambda path, **arrays: {instead}\n"
        "def run(train, query, *, seed):\n    return {'X_emb': np.zeros((4, 1))}"
    )
    with pytest.raises(ProgramError, match=r"'here': result.npz does not hold the outputs of a run"):
        inside(program)


TABLE = b'"cell","X_emb:1","label_pred","novelty"\n"a",1,"B",0.5\n"b",2,"T",NA\n'


@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.text(alphabet='cell",X_emb:1\n\r;NA0.e-\x00', max_size=120).map(str.encode),
        st.tuples(st.integers(0, len(TABLE)), st.integers(0, 9), st.binary(max_size=5)).map(
            lambda cut: TABLE[: cut[0]] + cut[2] + TABLE[cut[0] + cut[1] :]
        ),
    )
)
def test_a_table_of_any_content_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        found = exchange.read_table(path)
    except UserError as error:
        assert str(error).startswith("any.csv does not hold the outputs of a run")
    else:
        assert {len(array) for array in (found.X_emb, found.label_pred) if array is not None} <= {
            len(found.obs_names)
        }


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "missing", "large"])
def test_a_table_that_is_no_file_is_refused(tmp_path, monkeypatch, kind):
    path = tmp_path / "result.csv"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(Path(__file__))
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        path.write_bytes(TABLE)
        monkeypatch.setattr(exchange, "MOST_TABLE_BYTES", len(TABLE) - 1)
    with pytest.raises(UserError, match=r"result.csv does not hold the outputs of a run"):
        exchange.read_table(path)


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


def programs_of(cache: Path) -> list[psutil.Process]:
    """Return the processes of programs whose environments are in a cache folder."""

    def is_one(process: psutil.Process) -> bool:
        try:
            own = process.environ().get("CELLULAR_BENCH_CACHE") == str(cache)
            return own and any(text.endswith("inside.py") for text in process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            return False

    return [process for process in psutil.process_iter() if is_one(process)]


def test_limits_hold_for_what_a_method_starts(wait_for, away, tmp_path):
    record = away(what="hang", time_limit_s=8)
    assert record.status == "timeout"
    assert "hello from away" in record.log_tail
    wait_for(lambda: not programs_of(tmp_path / "cache"), seconds=5)
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


KINDS = ("namespaces", "landlock", "process")
PROBE = """
import json, os, socket, tempfile
import numpy as np

def can(attempt, *args):
    try:
        attempt(*args)
    except OSError:
        return False
    return True

def run(train, query, *, seed, what):
    if what == "open":
        open(%(secret)r + ".absent")
    memory = os.path.join(os.path.expanduser("~"), "memory")
    other = os.path.join(tempfile.gettempdir(), "..", "memory")
    remembered = os.path.exists(memory) or os.path.exists(other)
    for path in (memory, other):
        open(path, "w").write("B")
    seen = {
        "names": query.obs_names.tolist(), "labels": query.label is None, "remembered": remembered,
        "secret": can(open, %(secret)r), "home": os.path.expanduser("~"),
        "data": can(os.listdir, %(results)r), "python": os.path.realpath(os.sys.executable),
        "network": can(socket.create_connection, ("192.0.2.1", 9), 0.1),
    }
    print("seen " + json.dumps(seen))
    return {"X_emb": query.X.toarray() / 2}
"""


@pytest.fixture(scope="module")
def venv(tmp_path_factory) -> Path:
    """An environment as `env create` makes it, whose interpreter is reached by a chain of links.

    Its packages are those of this one, which spares the package index.
    """
    base = tmp_path_factory.mktemp("pythons")
    (base / "linked").symlink_to(sys.base_prefix)
    (base / "3").symlink_to("linked")
    folder = base / "venv"
    python = base / "3" / "bin" / f"python3.{sys.version_info.minor}"
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python3.*/site-packages")
    (site / "here.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    assert str(base / "3") in str((folder / "bin" / python.name).readlink())
    return folder


@pytest.fixture
def probe(planned, carried_out, tmp_path, monkeypatch, venv):
    """Run a plug-in that looks around in a real environment, behind walls of a kind."""
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(tmp_path / "cache"))
    lock, secret = tmp_path / "here.lock", tmp_path / "secret.txt"
    lock.write_text("numpy==2.4.6\nh5py==3.16.0\n", encoding="utf-8")
    secret.write_text("B", encoding="utf-8")
    environment = tmp_path / "here.toml"
    environment.write_text(DECLARATION + 'lock = "here.lock"\n', encoding="utf-8")
    place = status.place(find(str(environment)))
    place.parent.mkdir(parents=True)
    shutil.copytree(venv, place, symlinks=True)
    facts = {"python": "3.11.0", "packages": {"numpy": np.__version__, "h5py": h5py.__version__}}
    (place / status.MARKER).write_text(json.dumps(facts), encoding="utf-8")
    text = PROBE % {"secret": str(secret), "results": str(tmp_path / "out" / "data")}
    (tmp_path / "away.py").write_text(text, encoding="utf-8")
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN, encoding="utf-8")

    def run(kind: str, what: str = "look", *, seeds: tuple[int, ...] = (0,)):
        if kind in sandbox.best().missing:
            pytest.skip(sandbox.best().missing[kind])
        monkeypatch.setattr(sandbox, "best", lambda: sandbox.Found(kind=kind, description=kind))
        choice = {"method_id": "away", "params": {"what": what}}
        plan = planned(choice, task="integration", plugin=plugin, seeds=seeds)
        store = carried_out(plan, tmp_path / "out", n_jobs=1)
        return [(store.record(one.run_id), store.run_file(one.run_id, "log.txt")) for one in plan.runs]

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_sees_its_environment_and_its_cells_and_remembers_nothing(probe, kind):
    for record, log in probe(kind, seeds=(0, 1)):
        assert record.status == "ok", record.log_tail
        assert record.environment.isolation == kind
        line = next(line for line in log.read_text().splitlines() if line.startswith("seen "))
        seen = json.loads(line.removeprefix("seen "))
        assert all(re.fullmatch(r"cell_\d+", name) for name in seen["names"])
        assert seen["labels"] and not seen["remembered"] and not seen["network"]
        assert seen["secret"] == seen["data"] == (kind == "process")
        assert seen["home"] != str(Path.home())
        assert seen["python"].startswith(str(Path(sys.base_prefix).resolve()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_that_lacks_a_file_is_pointed_to_the_walls(probe, kind):
    ((record, _),) = probe(kind, "open")
    assert record.status == "failed"
    assert "FileNotFoundError" in record.reason or "PermissionError" in record.reason
    assert record.reason.endswith("(in a sandbox: see docs/running.md)") == (kind != "process")


TINY_R = """
run <- function(train, query, seed, params) {
  memory <- file.path(Sys.getenv("HOME"), "memory")
  seen <- list(
    says = tiny::says(), libraries = .libPaths(), remembered = file.exists(memory), labels = query$label,
    secret = tryCatch(nchar(readLines(params$what, warn = FALSE)) > 0, error = function(error) FALSE),
    names = colnames(query$X)
  )
  writeLines("B", memory)
  cat("seen ", jsonlite::toJSON(seen, auto_unbox = TRUE), "\n", sep = "")
  list(cells = colnames(query$X), X_emb = t(as.matrix(query$X)))
}
"""


@pytest.fixture(scope="module")
def r_library(tmp_path_factory) -> Path:
    """A library of R packages in a user's home, in which each package is a link, with a package of ours."""
    if shutil.which("Rscript") is None:
        pytest.skip("there is no Rscript on the PATH")
    base = tmp_path_factory.mktemp("r")
    (base / "tiny" / "R").mkdir(parents=True)
    (base / "tiny" / "DESCRIPTION").write_text(
        "Package: tiny\nVersion: 1.0\nTitle: T\nDescription: D.\nLicense: MIT\nAuthor: A\n"
        "Maintainer: A <a@example.org>\n"
    )
    (base / "tiny" / "NAMESPACE").write_text("export(says)\n")
    (base / "tiny" / "R" / "says.R").write_text('says <- function() "hello"\n')
    for folder in ("cache", "library"):
        (base / folder).mkdir()
    command = ["R", "CMD", "INSTALL", "--no-docs", "--no-test-load", "-l", base / "cache", base / "tiny"]
    subprocess.run(command, check=True, capture_output=True)
    (base / "library" / "tiny").symlink_to(base / "cache" / "tiny")
    return base / "library"


@pytest.mark.r
@pytest.mark.parametrize("kind", KINDS)
def test_r_finds_its_libraries_and_nothing_else(planned, carried_out, tmp_path, monkeypatch, r_library, kind):
    if kind in sandbox.best().missing:
        pytest.skip(sandbox.best().missing[kind])
    monkeypatch.setenv("R_LIBS_USER", str(r_library))
    (tmp_path / "here.toml").write_text(WITH_R.replace(" }", ', tiny = "1.0" }'), encoding="utf-8")
    found = state(find(str(tmp_path / "here.toml")))
    if not found.is_ready:
        pytest.skip(status.missing_text(found))
    (tmp_path / "secret.txt").write_text("B", encoding="utf-8")
    (tmp_path / "away.R").write_text(TINY_R, encoding="utf-8")
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN.replace("away.py", "away.R"), encoding="utf-8")
    monkeypatch.setattr(sandbox, "best", lambda: sandbox.Found(kind=kind, description=kind))
    choice = {"method_id": "away", "params": {"what": str(tmp_path / "secret.txt")}}
    plan = planned(choice, task="integration", plugin=plugin, seeds=(0, 1))
    store = carried_out(plan, tmp_path / "out", n_jobs=1)
    for run in plan.runs:
        record = store.record(run.run_id)
        assert record.status == "ok", f"{record.reason} {record.log_tail}"
        log = store.run_file(run.run_id, "log.txt").read_text()
        seen = json.loads(next(line for line in log.splitlines() if line.startswith("seen "))[5:])
        assert seen["says"] == "hello" and seen["labels"] == {} and not seen["remembered"]
        assert seen["libraries"] == found.variables["R_LIBS"].split(os.pathsep)
        assert all(name.startswith("cell_") for name in seen["names"])
        assert seen["secret"] == (kind == "process")
