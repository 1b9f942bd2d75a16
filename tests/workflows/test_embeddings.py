"""``--embedding``: embeddings made elsewhere, with the classifiers on them and what their models had seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cellular_bench
from cellular_bench.benchmark.schema.records import may_have_seen
from cellular_bench.cli.options import parse_embeddings
from cellular_bench.core.errors import UserError
from cellular_bench.datasets import catalog

RELEASED = {"kang": "2017-12", "baron": "2016-09"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The suite of embeddings on small data: one file under the names of two models."""
    folder = tmp_path_factory.mktemp("embeddings")
    adata = catalog.load(catalog.specs()["simulated_small"]).adata
    file = folder / "X.npz"
    X_emb = np.asarray(adata.X.toarray()[:, :30], dtype=np.float32)
    np.savez(file, obs_names=np.asarray(adata.obs_names, dtype=str), X_emb=X_emb)
    return cellular_bench.run(
        embeddings={"scgpt": file, "Mine@2015-01": file},
        datasets="simulated_small",
        split="reference_query",
        reference=[str(adata.obs["batch"].iloc[0])],
        leak_canary=True,
        out=folder / "results",
        quiet=True,
    )


def test_each_embedding_is_scored_as_it_is_and_under_both_classifiers(results):
    rows = {
        (record.task, record.method.name, record.method.params.get("classifier"))
        for record in results.records
        if record.method.pretrained
    }
    kinds = [("integration", None), ("annotation", "knn"), ("annotation", "logistic_regression")]
    assert rows == {(task, name, classifier) for task, classifier in kinds for name in ("scGPT", "Mine")}
    assert {record.status for record in _pretrained(results)} == {"ok"}


def test_classifiers_on_expression_are_beside_them(results):
    beside = {record.method.method_id for record in results.records if record.task == "annotation"}
    assert {"knn", "logistic_regression", "majority_label"} <= beside


def test_the_same_file_scores_the_same_under_any_name(results):
    scores = {}
    for record in results.records:
        if record.method.pretrained:
            key = record.task, record.split.split_id, record.method.params.get("classifier")
            values = {score.metric_id: score.value for score in record.scores}
            scores.setdefault(key, []).append(values)
    assert len(scores) == 3
    assert all(first == second for first, second in scores.values())


def test_the_month_of_the_training_data_is_that_of_the_model_or_the_given_one(results):
    months = {record.method.name: record.method.pretrained.trained_until for record in _pretrained(results)}
    assert months == {"scGPT": "2023-05", "Mine": "2015-01"}


@pytest.mark.parametrize(
    ("released", "trained_until", "expected"),
    [
        ("2016-09", "2023-05", True),
        ("2023-05", "2023-05", True),
        ("2023-06", "2023-05", False),
        ("2016-09", "2015-12", False),
        (None, "2023-05", True),
        ("2016-09", None, True),
    ],
)
def test_cells_may_have_been_seen_unless_they_are_newer(results, released, trained_until, expected):
    record = _pretrained(results)[0]
    model = record.method.pretrained
    method = record.method.model_copy(
        update={"pretrained": type(model)(name="x", trained_until=trained_until)}
    )
    dataset = record.dataset.model_copy(update={"released": released})
    assert may_have_seen(method, dataset) is expected
    assert not may_have_seen(method.model_copy(update={"pretrained": None}), dataset)


def test_the_table_marks_models_that_may_have_seen_the_cells(results):
    text = (Path(results.folder) / "leaderboard.md").read_text()
    # Simulated data have no month: nothing says that the model was trained before.
    assert "scGPT (may have seen these cells)" in text
    page = (Path(results.folder) / "leaderboard.html").read_text()
    assert "may have seen these cells" in page
    assert "Model trained until" in page


def test_the_leak_canary_leaves_out_what_is_looked_up_by_name(results):
    table = results.leaderboard("annotation").set_index("method_id")
    found = table["leak_canary"].dropna()
    assert set(found.index) == {"knn", "logistic_regression"}


def test_manifests_state_when_their_cells_became_public():
    assert {name: catalog.specs()[name].released for name in RELEASED} == RELEASED


@pytest.mark.parametrize("texts", [["scgpt"], ["=x.npz"], ["scgpt="], ["a=x.npz", "a=y.npz"]])
def test_other_forms_are_refused(texts):
    with pytest.raises(UserError, match="--embedding"):
        parse_embeddings(texts)


@pytest.mark.parametrize("name", ["@2020-01", "mine@", "mine@2020", "mine@2020-13"])
def test_other_names_are_refused(name, tmp_path):
    file = tmp_path / "x.npz"
    np.savez(file, obs_names=np.array(["a"]), X_emb=np.ones((1, 2)))
    with pytest.raises(UserError, match=r"--embedding|trained_until"):
        cellular_bench.run(
            embeddings={name: file}, datasets="simulated_small", out=tmp_path / "r", quiet=True
        )


def test_a_task_without_embeddings_is_refused(tmp_path):
    with pytest.raises(UserError, match="--embedding is for integration, annotation and novelty"):
        cellular_bench.run(
            embeddings={"uce": tmp_path / "x.npz"},
            suite="harm",
            datasets="simulated_small",
            out=tmp_path / "r",
            quiet=True,
        )


def _pretrained(results):
    return [record for record in results.records if record.method.pretrained]
