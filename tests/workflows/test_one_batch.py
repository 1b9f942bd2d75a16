"""Data of one batch: the task harm takes the place of integration, which needs two batches."""

import pandas as pd
import pytest

from cellular_bench.benchmark import registry
from cellular_bench.core.errors import UserError
from cellular_bench.datasets.simulator import simulate
from cellular_bench.workflows import data
from cellular_bench.workflows.requests import RunRequest
from cellular_bench.workflows.run import _planned
from cellular_bench.workflows.tailor import find_suite, tailored


class Heard:
    """Keeps messages to the user."""

    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


def _plan(n_batches=1, n_labels=3, methods=("pca", "harmony", "knn"), **asked):
    """Plan the default suite on simulated cells; return its runs by task and kind of split, and messages."""
    cells = simulate(n_obs=120, n_vars=20, n_labels=n_labels, n_batches=n_batches, seed=0)
    keys = {"label_key": "label", "batch_key": "batch" if n_batches > 1 else None}
    request = RunRequest.of(adata=cells, methods=methods, leak_canary=False, **keys, **asked)
    own, known, heard = data.described(request), registry.methods(), Heard()
    suite = tailored(find_suite("standard"), request, dataset_ids=[own.dataset_id], known=known)
    loaded = data.load(suite, {own.dataset_id: own}, subsample=None)
    runs = _planned(suite, loaded, known, request, heard).runs
    return {(run.task, run.split.kind) for run in runs}, heard.lines


def test_harm_is_run_instead_of_integration_and_a_line_says_so():
    found, lines = _plan()
    assert found == {
        ("harm", "even_halves"),
        ("harm", "skewed_halves"),
        ("annotation", "kfold"),
        ("novelty", "unseen_label"),
    }
    assert [line for line in lines if "instead" in line] == [
        "  note: harm of these cells is run instead of integration"
    ]


def test_with_two_batches_both_are_run_and_nothing_is_said():
    found, lines = _plan(n_batches=2)
    assert {("integration", "kfold"), ("harm", "even_halves"), ("harm", "skewed_halves")} < found
    assert lines == []


def test_integration_that_was_asked_for_is_refused():
    for tasks, methods in ((["integration"], ["pca"]), (["integration", "annotation"], ["pca", "knn"])):
        with pytest.raises(UserError, match="has one batch; integration needs two or more"):
            _plan(tasks=tasks, methods=methods)


def test_without_labels_the_halves_are_even():
    found, lines = _plan(n_labels=1, tasks=["harm"], methods=["pca"])
    assert found == {("harm", "even_halves")}
    assert any("skewed_halves draws a share for each label" in line for line in lines)


def test_a_split_that_is_asked_for_leaves_out_harm_unless_it_fits():
    for split in ("kfold", "all"):
        assert _plan(n_batches=2, split=split, methods=["pca"])[0] == {("integration", split)}
        with pytest.raises(UserError, match=f"needs the split even-halves or skewed-halves, not {split}"):
            _plan(n_batches=2, split=split, methods=["pca"], tasks=["harm"])
    found, _ = _plan(n_batches=2, split="even-halves", methods=["pca"], tasks=["harm"])
    assert found == {("harm", "even_halves")}


@pytest.mark.slow
def test_a_file_of_one_batch_is_run_from_the_command_line(run_benchmark, tmp_path):
    adata = simulate(n_obs=150, n_vars=40, n_labels=3, n_batches=1, seed=0)
    adata.write_h5ad(tmp_path / "one.h5ad")
    done = run_benchmark(
        "run", "--adata", tmp_path / "one.h5ad", "--label-key", "label", "--method", "pca,harmony,knn",
        "--out", tmp_path / "out", "--no-figures",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "harm of these cells is run instead of integration" in done.stdout + done.stderr
    table = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert set(table.task) == {"harm", "annotation", "novelty"}
    harmless = table[(table.metric_id == "harmless") & (table.method_id == "pca")]
    assert len(harmless) == 6
    assert (harmless.value == 1).all()
