"""scgraph gives the values of scgraph-eval 0.1.2: those kept in a file, and those of an installed one."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from cellular_bench.metrics import scgraph, structure_reference

DATA = Path(__file__).with_name("data")
CASES = (
    "six_types",
    "a_rare_type_and_a_small_batch",
    "types_that_share_no_batch",
    "too_few_cells_of_one_type",
)
#: Principal components are computed in single precision there.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_scgraph", DATA / "make_scgraph.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ours(X, label, batch, embeddings):
    genes, depth = np.ones(X.shape[1], dtype=bool), np.log((X > 0).sum(axis=1))
    reference = structure_reference(X, batch, label, highly_variable=genes, depth=depth)
    return {name: scgraph(X_emb, reference) for name, X_emb in embeddings.items()}


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_file(script, name):
    expected = json.loads((DATA / "scgraph.json").read_text())[name]
    assert ours(*script.simulate(name)) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_an_installed_reference(script, name):
    pytest.importorskip("scgraph", reason="scgraph-eval is not installed")
    cells = script.simulate(name)
    assert ours(*cells) == pytest.approx(script.reference_values(*cells), abs=TOLERANCE)


def test_the_file_has_all_cases(script):
    assert json.loads((DATA / "scgraph.json").read_text()).keys() == script.CASES.keys() == set(CASES)
