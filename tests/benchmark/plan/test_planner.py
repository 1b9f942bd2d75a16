"""Suites, splits and names of runs."""

import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime

import pandas as pd
import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution.run import recorded
from cellular_bench.benchmark.plan.identity import derive_seed
from cellular_bench.benchmark.plan.planner import plan
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.records import Outcome, Run
from cellular_bench.benchmark.schema.suite import Suite, read_suite
from cellular_bench.core.errors import UserError
from cellular_bench.datasets import catalog


@pytest.fixture(scope="module")
def datasets():
    specs = catalog.specs()
    return {name: catalog.load(specs[name]) for name in ("simulated_small", "pbmc68k_reduced")}


def suite_of(**block: object) -> Suite:
    given = {"task": "annotation", "datasets": ["simulated_small"], "methods": ["knn"], "splits": ["all"]}
    return Suite(suite_id="s", title="S", blocks=[{**given, **block}])


def runs_of(loaded, /, **block: object):
    return plan(suite_of(**block), datasets=loaded, methods=registry.methods()).runs


def test_a_suite_is_the_product_of_its_parts(datasets) -> None:
    runs = runs_of(
        datasets,
        methods=["knn", "logistic_regression"],
        splits=[{"kind": "kfold", "n_splits": 3}],
        seeds=[0, 1],
    )
    assert len(runs) == 2 * 3 * 2
    assert len({run.run_id for run in runs}) == 12
    assert {run.split.split_id for run in runs} == {f"kfold-3-42.{fold}" for fold in (1, 2, 3)}


def test_what_is_worth_knowing_of_the_data_goes_with_each_run(datasets) -> None:
    warnings = ("There is one batch.", "There are no counts.")
    loaded = {"simulated_small": replace(datasets["simulated_small"], warnings=warnings)}
    (run,) = runs_of(loaded)
    assert run.warnings == warnings
    started = datetime(2026, 1, 1, tzinfo=UTC)
    record = recorded(run, Outcome(status="failed", reason="x"), started_at=started)
    assert {name: getattr(record, name) for name in Run.model_fields} == {
        name: getattr(run, name) for name in Run.model_fields
    }
    assert record.warnings == warnings
    assert run.run_id == runs_of(datasets)[0].run_id


def test_all_stands_for_every_method_of_the_task(datasets) -> None:
    chosen = {run.method.method_id: run for run in runs_of(datasets, methods=["all"])}
    assert set(chosen) == set(registry.methods_for("annotation", registry.methods()))
    assert "cellular" in chosen
    assert "cellular_centroid" not in chosen, "variants run where they are named"
    assert "precomputed_classifier" not in chosen, "it needs a parameter"
    assert runs_of(datasets, methods=["cellular_centroid"])
    changed = [{"method_id": "knn", "params": {"n_neighbors": 3}}, "all"]
    again = {run.method.method_id: run for run in runs_of(datasets, methods=changed)}
    assert set(again) == set(chosen)
    assert again["knn"].method.params["n_neighbors"] == 3


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"methods": ["knnn"]}, "Unknown method 'knnn'. Did you mean 'knn'?"),
        ({"methods": ["harmony"]}, "Method 'harmony' does integration, not annotation."),
        (
            {"methods": [{"method_id": "knn", "params": {"n_neighbours": 3}}]},
            "Unknown knn parameter 'n_neighbours'. Did you mean 'n_neighbors'?",
        ),
        (
            {"task": "integration", "methods": ["pca"], "datasets": ["pbmc68k_reduced"]},
            "Data set 'pbmc68k_reduced' has one batch; integration needs two or more.",
        ),
        ({"splits": ["leave_one_batch_out"], "datasets": ["pbmc68k_reduced"]}, "batch"),
        ({"splits": [{"kind": "kfold", "n_folds": 3}]}, "n_folds"),
        ({"task": "novelty"}, "holds no label back, so no cell is novel"),
        (
            {"methods": [{"method_id": "knn", "params": {"n_neighbors": float("nan")}}]},
            "Parameter 'n_neighbors' of method 'knn' is nan; it must be text, a finite number",
        ),
        (
            {"methods": [{"method_id": "singler", "params": {"marker_method": "aux"}}]},
            "Method 'singler': Unknown marker method 'aux'. Did you mean 'auc'?",
        ),
        (
            {"methods": [{"method_id": "singler", "params": {"marker_method": 1}}]},
            "Method 'singler': Unknown marker method '1'. Known: auc, classic, cohens_d, t, wilcox.",
        ),
        (
            {"methods": [{"method_id": "tosica", "params": {"epochs": "many"}}]},
            "Method 'tosica' cannot be made with epochs='many': '<' not supported",
        ),
        (
            {"methods": [{"method_id": "ensemble", "params": {"methods": ["knnn"]}}]},
            "Method 'ensemble': Unknown member of the ensemble 'knnn'. Did you mean 'knn'?",
        ),
    ],
)
def test_an_impossible_request_is_refused_in_words(datasets, block, message: str) -> None:
    with pytest.raises(UserError) as caught:
        runs_of(datasets, **block)
    assert message in str(caught.value)


def test_the_name_of_a_run_does_not_change_between_versions_of_the_code(datasets) -> None:
    run = runs_of(datasets, methods=["knn"])[0]
    prefix = "annotation-simulated_small-all-knn-s0-"
    assert run.run_id.startswith(prefix)
    assert len(run.run_id) == len(prefix) + 10
    assert run.run_id == runs_of(datasets, methods=["knn"])[0].run_id
    assert run.run_id != runs_of(datasets, methods=["knn"], seeds=[1])[0].run_id


def test_a_new_version_of_a_member_makes_another_run_of_the_ensemble(datasets, monkeypatch) -> None:
    members = [{"method_id": "ensemble", "params": {"methods": ["celltypist", "knn"]}}]
    run = runs_of(datasets, methods=members)[0]
    assert {"celltypist", "scikit-learn"} <= set(run.method.packages)
    assert run.method.members == {"celltypist": 1, "knn": 1}
    newer = {name: replace(spec, version=2) for name, spec in registry.built_in_specs().items()}
    monkeypatch.setattr(registry, "built_in_specs", lambda: newer)
    again = runs_of(datasets, methods=members)[0]
    assert again.method.members == {"celltypist": 2, "knn": 2}
    assert again.run_id != run.run_id


def test_derived_seeds_are_fixed_and_differ() -> None:
    assert derive_seed(0, "a", "b") == derive_seed(0, "a", "b")
    seeds = {derive_seed(base, *parts) for base in (0, 1) for parts in (("a", "b"), ("ab", ""), ("a", "c"))}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "is not valid TOML"),
        ('title = "x"', "blocks: Field required"),
        (
            'title = "x"\n[[blocks]]\ntask = "annotation"\ndatasets = ["a"]\nmethods = "all"',
            'blocks.0.methods: Value error, must be a list, such as ["all"]',
        ),
        (
            'title = "x"\n[[blocks]]\ntask = "annotation"\ndatasets = ["a"]\nmethods = 3',
            "blocks.0.methods: Value error, must be a list",
        ),
        (
            'title = "x"\n[[blocks]]\ntask = "annotation"\ndatasets = ["a"]\nmethods = ["b"]\nsplits = "all"',
            "blocks.0.splits: Value error, must be a list",
        ),
        ('title = "x"\nblocks = [{task = 3}]', "blocks.0.task: Input should be a valid string (got 3)"),
        ('title = "x"\ncolour = "red"\nblocks = []', "blocks: "),
        (
            'title = "x"\nlimits = {time_limit_s = -1}\n[[blocks]]\ntask = "annotation"\ndatasets = ["a"]\n'
            'methods = ["b"]\nsplits = ["all"]',
            "limits.time_limit_s: Input should be greater than 0 (got -1)",
        ),
    ],
)
def test_a_broken_suite_file_names_the_field(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_suite(path)
    assert message in str(caught.value)


def test_a_suite_is_called_as_its_file(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    block = 'task = "annotation"\ndatasets = ["a"]\nmethods = ["b"]\nsplits = ["all"]'
    path.write_text(f'suite_id = "other"\ntitle = "x"\n[[blocks]]\n{block}')
    assert read_suite(path).suite_id == "mine"


def test_a_suite_file_that_is_no_text_is_refused(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not valid TOML"):
        read_suite(path)


def test_a_long_batch_name_still_gives_names_of_files(datasets, tmp_path) -> None:
    dataset = datasets["simulated_small"]
    adata = dataset.adata.copy()
    names = [f"{'ä' * 250}{name}" for name in adata.obs["batch"]]
    adata.obs["batch"] = pd.Categorical(names)
    loaded = {"simulated_small": replace(dataset, adata=adata)}
    runs = runs_of(loaded, datasets=["simulated_small"], splits=["leave_one_batch_out"])
    store = Store.create(tmp_path / "out", suite_of())
    for run in runs:
        store.run_folder(run.run_id).mkdir(parents=True)
        store.split_folder(run.dataset, run.split).mkdir(parents=True, exist_ok=True)
    assert len({store.split_folder(run.dataset, run.split) for run in runs}) == 2


def test_every_suite_that_ships_can_be_read() -> None:
    suites = [read_suite(path) for path in registry.suites().values()]
    assert "quickstart" in {suite.suite_id for suite in suites}
    assert all(suite.description for suite in suites)


def test_the_novelty_suite_leaves_out_every_type_of_its_data_and_no_variant_runs() -> None:
    suite = read_suite(registry.suites()["novelty"])
    baron = {"baron": catalog.load(catalog.specs()["baron"])}
    runs = plan(suite, datasets=baron, methods=registry.methods()).runs
    hidden = {label for run in runs for label in run.split.unseen_labels}
    assert hidden == set(baron["baron"].adata.obs["label"])
    assert len({run.split.split_id for run in runs}) == 3 * len(hidden)
    methods = {run.method.method_id for run in runs}
    assert "cellular" in methods
    assert not [name for name in methods if registry.methods()[name].spec.variant_of]


def test_a_method_given_other_genes_is_another_row(datasets) -> None:
    choices = ["knn", {"method_id": "knn", "features": "all"}, {"method_id": "knn", "features": "hvg"}]
    runs = runs_of(datasets, methods=choices)
    assert len(runs) == 2, "its own choice, named, is the same run"
    assert [run.method.name for run in runs] == ["kNN", "kNN, all genes"]
    assert [run.method.features for run in runs] == ["hvg", "all"]
    assert [run.method.given_features for run in runs] == [None, "all"]
    assert runs[0].run_id != runs[1].run_id


def test_the_metrics_of_the_study_are_part_of_a_runs_name(datasets) -> None:
    block = {"task": "integration", "methods": ["pca"]}
    suite = suite_of(**block)
    run, asked = (
        plan(one, datasets=datasets, methods=registry.methods()).runs[0]
        for one in (suite, suite.model_copy(update={"study_metrics": True}))
    )
    assert run.run_id != asked.run_id
    assert asked.study_metrics
    assert run.method_seed == asked.method_seed


def test_runs_keep_their_names(datasets, monkeypatch) -> None:
    """A change here means that no result of an earlier version is found again."""
    versions = {"anndata": "0.12.19", "numpy": "2.4.6", "scipy": "1.17.1"}
    monkeypatch.setattr("cellular_bench.benchmark.plan.installed.version", versions.__getitem__)
    unseen = {"kind": "unseen_label", "labels": ["type1"]}
    blocks = [
        {"task": task, "datasets": ["simulated_small"], "methods": [method], "splits": [split]}
        for task, method, split in (
            ("integration", "perfect_labels", "all"),
            ("annotation", "majority_label", "all"),
            ("novelty", "true_labels", unseen),
        )
    ]
    suite = Suite(suite_id="x", title="X", blocks=blocks)
    names = {
        study: [
            run.run_id[-10:]
            for run in plan(
                suite.model_copy(update={"study_metrics": study}),
                datasets=datasets,
                methods=registry.methods(),
            ).runs
        ]
        for study in (False, True)
    }
    assert names == {
        False: ["e4ebde352f", "a270974d19", "8f691394b3"],
        True: ["f13fdcd28c", "a270974d19", "0767070add"],
    }


def test_thinned_counts_and_a_recipe_do_not_go_together(datasets) -> None:
    made = {"simulated_small": catalog.prepared(datasets["simulated_small"], "study_annotated")}
    assert runs_of(made)[0].dataset.recipe["name"] == "study_annotated"
    shallow = {"kind": "all", "stress": {"kind": "shallow", "levels": [0.5]}}
    with pytest.raises(UserError, match="scales thinned counts to 10,000 per cell, and the recipe"):
        runs_of(made, splits=[shallow])


def precomputed(file, **params: object) -> dict[str, object]:
    return {"method_id": "precomputed_classifier", "params": {"file": str(file), **params}}


def test_what_a_file_holds_names_a_run_and_where_it_lies_does_not(datasets, tmp_path) -> None:
    one, copied, other = (tmp_path / name for name in ("one.npz", "copied.npz", "other.npz"))
    one.write_bytes(b"first")
    copied.write_bytes(b"first")
    other.write_bytes(b"second")
    runs = [runs_of(datasets, methods=[precomputed(path)])[0] for path in (one, copied, other)]
    first, again, second = (run.run_id for run in runs)
    assert first == again
    assert first != second
    assert runs[0].method.files == {"file": hashlib.sha256(b"first").hexdigest()}
    assert runs[1].method.params["file"] == str(copied)


def test_a_file_that_was_written_again_is_another_run(datasets, tmp_path) -> None:
    path = tmp_path / "emb.npz"
    path.write_bytes(b"first")
    before = runs_of(datasets, methods=[precomputed(path)])[0].run_id
    path.write_bytes(b"later")
    os.utime(path, ns=(1, 1))
    assert runs_of(datasets, methods=[precomputed(path)])[0].run_id != before


def test_a_relative_path_is_made_absolute_before_the_run_has_a_folder_of_its_own(
    datasets, tmp_path, monkeypatch
) -> None:
    (tmp_path / "emb.npz").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    run = runs_of(datasets, methods=[precomputed("emb.npz")])[0]
    assert run.method.params["file"] == str(tmp_path / "emb.npz")


def test_a_missing_file_or_parameter_is_refused_before_anything_runs(datasets, tmp_path) -> None:
    for methods, message in (
        (
            ["precomputed_classifier"],
            "needs the parameter 'file'. Give it, such as --param precomputed_class",
        ),
        ([precomputed(tmp_path / "none.npz")], "none.npz, which cannot be read: No such file or directory"),
        ([{"method_id": "scibet", "params": {"background": 3}}], "is 3; it must be the path of a file"),
    ):
        with pytest.raises(UserError) as caught:
            runs_of(datasets, methods=methods)
        assert message in str(caught.value)


def test_a_file_that_is_not_given_leaves_no_trace(datasets) -> None:
    run = runs_of(datasets, methods=["scibet"])[0]
    assert run.method.params["background"] is None
    assert run.method.files == {}


def test_simulated_data_are_what_their_names_say() -> None:
    suite = read_suite(registry.suites()["simulated"])
    assert {table["dataset_id"] for table in suite.data} == set(suite.blocks[0].datasets)
    assert len(suite.data) == 10
    for table in suite.data:
        kind, strength = table["dataset_id"].removeprefix("simulated_").split("_")
        arguments = table["source"]["arguments"]
        assert arguments["batch_strength"] == float(strength.replace("p", "."))
        assert ("label_proportions" in arguments) == (kind == "unequal")


def test_a_data_set_described_twice_is_refused(tmp_path) -> None:
    table = '[[data]]\ndataset_id = "a"\n' * 2
    path = tmp_path / "mine.toml"
    block = '[[blocks]]\ntask = "annotation"\ndatasets = ["a"]\nmethods = ["knn"]\nsplits = ["all"]\n'
    path.write_text(f'title = "x"\n{block}{table}')
    with pytest.raises(UserError, match="data set 'a' is described 2 times"):
        read_suite(path)
