"""What a plug-in finds beside it behind walls: modules and packages, and no data that it does not declare."""

import sys
from pathlib import Path

import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.isolation import sandbox
from cellular_bench.benchmark.plan.planner import plan
from cellular_bench.benchmark.schema.suite import Suite

PLUGIN = """
import socket
import sys
from pathlib import Path

import numpy as np

from cellular_bench import MethodSpec

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from sibling_of_reads import half
from parts_of_reads.nested import twice


class Reads:
    spec = MethodSpec(method_id="reads", name="Reads", tasks=("integration",), file_params=("declared",),
                      weights=(str(HERE / "weights"), str(HERE / "absent")))

    def __init__(self, *, what="nothing", declared=None, seed=0):
        self.what, self.declared = what, declared

    def fit_embed(self, adata):
        if self.declared is not None:
            assert Path(self.declared).read_text() == "data"
        if self.what == "weights":
            assert (HERE / "weights" / "w.txt").read_text() == "data"
        if self.what == "beside":
            (HERE / "table.csv").read_text()
        if self.what == "wrapped":
            try:
                (HERE / "table.csv").read_text()
            except OSError as error:
                raise RuntimeError("no table") from error
        if self.what == "network":
            socket.create_connection(("192.0.2.1", 9), 0.2)
        if self.what == "wrong":
            raise ValueError("no file of this")
        return np.asarray(adata.X.toarray()) * half * twice
"""
HINT = " (in a sandbox: see docs/running.md)"


@pytest.fixture
def reads(small, carried_out, tmp_path, monkeypatch):
    """Run a plug-in with files beside it, behind walls of a kind; return its record."""
    folder = tmp_path / "mine"
    (folder / "parts_of_reads").mkdir(parents=True)
    (folder / "weights").mkdir()
    for name, text in {
        "reads.py": PLUGIN,
        "sibling_of_reads.py": "half = 0.5\n",
        "parts_of_reads/__init__.py": "",
        "parts_of_reads/nested.py": "from .deeper import twice\n",
        "parts_of_reads/deeper.py": "twice = 2\n",
        "table.csv": "data",
        "weights/w.txt": "data",
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(kind: str = "namespaces", **params: object):
        if kind in sandbox.best().missing:
            pytest.skip(sandbox.best().missing[kind])
        monkeypatch.setattr(sandbox, "best", lambda: sandbox.Found(kind=kind, description=kind))
        plugin = folder / "reads.py"
        methods = [{"method_id": "reads", "params": params}]
        block = {"task": "integration", "datasets": list(small), "methods": methods, "seeds": [0]}
        block["splits"] = ["all"]
        suite = Suite(suite_id="test", title="Test", blocks=[block], leak_canary=False)
        made = plan(suite, datasets=small, methods=registry.methods([plugin]), plugins=[plugin])
        record = carried_out(made, tmp_path / "out").record(made.runs[0].run_id)
        assert record is not None
        assert record.environment.isolation == kind
        return record

    return run


@pytest.mark.parametrize("kind", ["namespaces", "landlock", "process"])
def test_modules_packages_weights_and_a_named_file_are_found(reads, kind) -> None:
    record = reads(kind, what="weights", declared="table.csv")
    assert record.status == "ok", record.log_tail


@pytest.mark.parametrize("kind", ["namespaces", "landlock"])
@pytest.mark.parametrize("what", ["beside", "wrapped", "network"])
def test_a_failure_that_walls_may_have_brought_about_says_so(reads, kind, what) -> None:
    record = reads(kind, what=what)
    assert record.status == "failed"
    assert record.reason.endswith(HINT), record.reason


@pytest.mark.parametrize(("kind", "what"), [("namespaces", "wrong"), ("process", "network")])
def test_another_failure_does_not(reads, kind, what) -> None:
    record = reads(kind, what=what)
    assert record.status == "failed"
    assert HINT not in record.reason


def test_the_hint_leads_to_a_page_that_names_the_remedies(repo) -> None:
    text = Path(repo, "docs", "running.md").read_text(encoding="utf-8")
    assert all(word in text for word in (HINT.strip(), "file_params", "weights", "--no-sandbox"))
