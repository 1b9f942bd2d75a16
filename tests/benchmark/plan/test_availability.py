"""A suite that names more than there is: what is run, what is missing, and how to get it."""

from dataclasses import replace

import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.plan.availability import drop_impossible_tasks, drop_unavailable
from cellular_bench.benchmark.schema.suite import Suite, read_suite
from cellular_bench.core.errors import UserError
from cellular_bench.datasets import catalog
from cellular_bench.datasets.simulator import simulate


@pytest.fixture(scope="module")
def known():
    return {"methods": registry.methods(), "datasets": catalog.specs()}


def suite_of(*methods, datasets=("simulated_small",), partial=True, **more):
    block = {"task": "annotation", "datasets": datasets, "methods": list(methods), "splits": ["all"]}
    return Suite(suite_id="s", title="S", partial=partial, blocks=[block], **more)


def test_what_is_not_here_is_left_out_and_written_down(known):
    genes = {"method_id": "nobody", "features": "hvg"}
    left = drop_unavailable(suite_of("knn", "nobody", genes, datasets=["simulated_small", "kidney"]), **known)
    (block,) = left.blocks
    assert [choice.method_id for choice in block.methods] == ["knn"]
    assert block.datasets == ("simulated_small",)
    missing = {item.name: item for item in left.missing}
    assert missing.keys() == {"nobody", "kidney"}
    assert "annotation of simulated_small: nobody (hvg)" in missing["nobody"].rows
    assert missing["kidney"].rows == ("annotation: knn, nobody, nobody (hvg)",)
    assert "kidney.h5ad or Muto_merged.h5ad" in missing["kidney"].remedy
    assert "datasets fetch kidney" in missing["kidney"].remedy


def test_a_file_of_the_folder_makes_data_be_here(known, tmp_path):
    spec = replace(known["datasets"]["kidney"], source={"kind": "local", "path": str(tmp_path / "k.h5ad")})
    here = {**known, "datasets": {**known["datasets"], "kidney": spec}}
    left = drop_unavailable(suite_of("knn", datasets=["kidney"]), **here)
    assert left.blocks[0].datasets == ("kidney",)
    assert not left.missing


def test_the_first_stand_in_that_is_here_is_run_and_said_to_be_one(known):
    suite = suite_of("knn", datasets=["kidney"], stand_ins={"kidney": ["pancreas", "baron", "simulated"]})
    left = drop_unavailable(suite, **known)
    assert left.blocks[0].datasets == ("baron",)
    assert [item.reason for item in left.missing] == ["It is not here. Run instead: baron."]


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ("harmony", "It does integration, not annotation."),
        (
            {"method_id": "knn", "params": {"preset": "paper"}},
            "It has no parameter preset, with which the suite runs it.",
        ),
    ],
)
def test_a_method_that_cannot_do_what_is_asked_is_missing(known, choice, reason):
    left = drop_unavailable(suite_of("naive_bayes", choice), **known)
    assert [item.reason for item in left.missing] == [reason]
    assert [one.method_id for one in left.blocks[0].methods] == ["naive_bayes"]


def test_other_suites_are_left_alone_and_nothing_at_all_is_an_error(known):
    whole = suite_of("nobody", partial=False)
    assert drop_unavailable(whole, **known) is whole
    with pytest.raises(UserError, match=r"Nothing of suite 's' can be run here\. nobody: This version has"):
        drop_unavailable(suite_of("nobody"), **known)


def test_the_studys_suite_has_every_published_row(known):
    """Each method x data set of the published tables is asked for, and what is not here has a remedy."""
    from cellular_bench.benchmark.external.published import published_scores

    suite = read_suite(registry.suites()["paper"])
    asked = {
        (block.task, dataset, choice.method_id, choice.features)
        for block in suite.blocks
        for dataset in block.datasets
        for choice in block.methods
    }
    both = {"scnym", "seurat", "scibet", "cellid_cell", "cellid_group"}
    for score in published_scores():
        features = score.features if score.method_id in both else None
        assert (score.task, score.dataset_id, score.method_id, features) in asked
    left = drop_unavailable(suite, **known)
    names = {name for block in left.blocks for name in block.datasets}
    assert names & {"baron_full", *suite.stand_ins["baron_full"]}, "whichever of them this machine has"
    assert {"kidney", "zheng68k"} <= {item.name for item in left.missing}
    assert all(item.remedy and item.rows for item in left.missing)


def test_tasks_that_the_cells_do_not_allow_are_left_out_and_written_down():
    cells = catalog.from_memory(simulate(n_obs=60, n_vars=20, n_labels=2, n_batches=1, seed=0),
                                batch_key=None, label_key="label")  # fmt: skip
    loaded = {cells.dataset_id: catalog.load(cells)}
    blocks = [
        {"task": task, "datasets": [cells.dataset_id], "methods": [method], "splits": [split]}
        for task, method, split in [
            ("integration", "pca", "all"), ("annotation", "knn", "kfold"), ("novelty", "knn", "unseen_label")
        ]
    ]  # fmt: skip
    suite = Suite(suite_id="s", title="S", blocks=blocks)
    allowed = drop_impossible_tasks(suite, loaded)
    assert [block.task for block in allowed.blocks] == ["annotation"]
    batches, labels = allowed.missing
    assert batches.lines()[0].startswith("missing task integration. Data set 'adata' has one batch;")
    assert batches.rows == ("integration: pca",)
    assert "3 labels to hide, but only 2 of 2 labels" in labels.reason
    with pytest.raises(UserError, match="has one batch"):
        drop_impossible_tasks(suite.model_copy(update={"blocks": suite.blocks[:1]}), loaded)
