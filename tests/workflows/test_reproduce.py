"""A record's run again, and two folders side by side."""

import json
import shutil
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis import folder_comparison as comparison
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.cli.compare import command as compare
from cellular_bench.cli.reproduce import command as reproduce
from cellular_bench.core.errors import UserError
from cellular_bench.workflows import reproduce as reproduction

KFOLD = {"kind": "kfold", "n_splits": 3, "seed": 5}


@pytest.fixture(scope="module")
def original(planned, carried_out, tmp_path_factory) -> Store:
    shrunk = {"method_id": "healthy", "params": {"shrink": 0.5}}
    plan = planned(shrunk, "majority_label", "raises", split=KFOLD)
    return carried_out(plan, tmp_path_factory.mktemp("again") / "out")


@pytest.fixture
def copy(original, tmp_path) -> Store:
    shutil.copytree(original.root, tmp_path / "copy")
    return Store.open(tmp_path / "copy")


def of(store: Store, method_id: str) -> list[RunRecord]:
    return [record for record in store.records() if record.method.method_id == method_id]


def with_value(record: RunRecord, metric_id: str, value: float) -> RunRecord:
    scores = [
        score.model_copy(update={"value": value}) if score.metric_id == metric_id else score
        for score in record.scores
    ]
    return record.model_copy(update={"scores": tuple(scores)})


def record_file(store: Store, record: RunRecord) -> Path:
    return store.run_folder(record.run_id) / "record.json"


def test_a_record_names_what_made_it(original) -> None:
    record = of(original, "healthy")[1]
    environment = record.environment
    assert environment.packages["numpy"] == np.__version__
    assert environment.python.count(".") == 2
    assert environment.platform and environment.cpu
    assert environment.n_threads == 1
    assert environment.command_line == tuple(sys.argv)
    assert len(record.dataset.digest) == len(record.outputs.sha256) == 64
    assert len(record.method.source_digest) == 10
    assert record.split.options == {"n_splits": 3, "seed": 5}
    assert (environment.git_commit is None) == (environment.git_dirty is None)


def test_the_request_of_a_record_is_its_own_run(original, small, plugin) -> None:
    from cellular_bench.benchmark.plan.planner import plan

    known = registry.methods([plugin])
    for record in original.records():
        suite = reproduction.suite_of(record)
        planned = plan(suite, datasets=small, methods=known, plugins=[plugin])
        (run,) = reproduction.only(planned, record).runs
        assert run.run_id == record.run_id
        assert run.method_seed == record.method_seed


def test_of_two_splits_with_the_same_cells_the_one_of_the_record_is_done(original, small, plugin) -> None:
    from cellular_bench.benchmark.plan.planner import plan

    record = of(original, "healthy")[0]
    planned = plan(reproduction.suite_of(record), datasets=small, methods=registry.methods([plugin]))
    (own,) = reproduction.only(planned, record).runs
    split = own.split.model_copy(update={"split_id": "twin"})
    twin = own.model_copy(update={"run_id": "twin", "split": split})
    both = replace(planned, runs=(twin, *planned.runs))
    assert reproduction.only(both, record).runs == (own,)


def test_a_healthy_and_a_failed_run_are_reproduced(original, plugin) -> None:
    for record in (of(original, "healthy")[1], of(original, "raises")[0]):
        done = CliRunner().invoke(reproduce, [str(record_file(original, record)), "--plugin", str(plugin)])
        assert done.exit_code == 0, done.output
        assert done.output.splitlines()[-1].startswith("Reproduced: ")


def test_another_score_is_a_difference_of_exit_code_1(copy, plugin) -> None:
    record = of(copy, "healthy")[0]
    value = record.value("accuracy")
    copy.write(with_value(record, "accuracy", value - 0.01))
    arguments = [str(record_file(copy, record)), "--plugin", str(plugin)]
    done = CliRunner().invoke(reproduce, arguments)
    assert done.exit_code == 1
    assert f"differs     accuracy: {value - 0.01} -> {value}" in done.output
    assert CliRunner().invoke(reproduce, [*arguments, "--tolerance", "0.02"]).exit_code == 0


def test_other_inputs_are_refused(original, small, plugin, tmp_path) -> None:
    record = of(original, "healthy")[0]
    dataset = small["simulated_small"]
    changed = record.model_copy(update={"dataset": record.dataset.model_copy(update={"digest": "0" * 64})})
    with pytest.raises(UserError, match="holds other contents"):
        reproduction.check_inputs(changed, dataset, registry.methods([plugin]))
    edited = tmp_path / "zoo.py"
    edited.write_text(plugin.read_text() + "\n# edited\n")
    with pytest.raises(UserError, match=r"Give that file by --plugin\."):
        reproduction.check_inputs(record, dataset, registry.methods([edited]))


def test_a_file_that_a_method_read_must_still_hold_the_same(original, small, plugin, tmp_path) -> None:
    record = of(original, "healthy")[0]
    path = tmp_path / "background.txt"
    path.write_text("gene\t1\n")
    read = {"method_id": "scibet", "params": {"background": str(path)}, "source_digest": None}
    method = record.method.model_copy(update={**read, "files": {"background": "0" * 64}})
    with pytest.raises(
        UserError, match=r"with other contents: their sha256 began with 0000000000, now with \w"
    ):
        reproduction.check_inputs(
            record.model_copy(update={"method": method}), small["simulated_small"], registry.methods([plugin])
        )
    same = method.model_copy(update={"files": {"background": sha256(path.read_bytes()).hexdigest()}})
    reproduction.check_inputs(
        record.model_copy(update={"method": same}), small["simulated_small"], registry.methods([plugin])
    )


def test_packages_that_changed_are_named(original) -> None:
    record = of(original, "healthy")[0]
    older = record.environment.model_copy(
        update={"packages": {**record.environment.packages, "scanpy": "1.0"}, "python": "3.10.0"}
    )
    reported = [
        str(change)
        for change in reproduction.changes(record.model_copy(update={"environment": older}), record)
    ]
    assert reported[0] == f"python: 3.10.0 -> {record.environment.python}"
    assert reported[1].startswith("scanpy: 1.0 -> 1.")
    assert len(reported) == 2


def test_another_version_of_a_method_or_of_its_members_is_named(original) -> None:
    record = of(original, "healthy")[0]
    newer = record.method.model_copy(update={"version": 7, "members": {"knn": 2}})
    older = record.method.model_copy(update={"members": {"knn": 1}})
    first, second = (record.model_copy(update={"method": method}) for method in (older, newer))
    reported = [str(change) for change in reproduction.changes(first, second)]
    assert reported == ["knn version: 1 -> 2", f"method version: {record.method.version} -> 7"]


def test_gains_are_means_over_folds_with_the_corrected_interval(original) -> None:
    before = [with_value(record, "accuracy", 0.9) for record in of(original, "healthy")]
    by_hand = [-0.01, -0.04, 0.02]
    after = [
        with_value(record, "accuracy", record.value("accuracy") + change)
        for record, change in zip(before, by_hand, strict=True)
    ]
    report = comparison.compare(before, after, registry.metrics())
    (change,) = [change for change in report.changes if change.metric_id == "accuracy"]
    assert change.after - change.before == pytest.approx(-0.01)
    assert change.gain.mean == pytest.approx(-0.01)
    overlap = np.mean([record.split.n_test / record.split.n_train for record in before])
    half = stats.t.ppf(0.975, 2) * np.sqrt((1 / 3 + overlap) * np.var(by_hand, ddof=1))
    assert (change.gain.low, change.gain.high) == pytest.approx((-0.01 - half, -0.01 + half))
    assert not change.is_certain
    assert [found.metric_id for found in report.regressions(0.009)] == ["accuracy"]
    assert report.regressions(0.011) == []
    assert all(found.gain.mean == 0 for found in report.changes if found.metric_id != "accuracy")


def test_a_metric_where_less_is_better_turns_its_sign(original) -> None:
    specs = registry.metrics()
    spec = next(spec for spec in specs.values() if not spec.higher_is_better and spec.aspect == "annotation")
    record = of(original, "healthy")[0]
    score = next(iter(record.scores)).model_copy(
        update={"metric_id": spec.metric_id, "value": spec.minimum, "reason": None, "undefined_by": None}
    )
    worse = score.model_copy(update={"value": (spec.minimum + spec.maximum) / 2})
    before, after = (record.model_copy(update={"scores": (s,)}) for s in (score, worse))
    (change,) = comparison.compare([before], [after], specs).changes
    assert change.gain.mean == pytest.approx(-0.5)
    assert change.gain.low is None


def test_compare_ends_with_1_on_a_regression_only_where_asked(original, copy) -> None:
    for record in of(copy, "healthy"):
        copy.write(with_value(record, "accuracy", record.value("accuracy") - 0.05))
    same = CliRunner().invoke(compare, [str(original.root), str(original.root), "--fail-if-worse", "0"])
    assert same.exit_code == 0, same.output
    assert "0 of " in same.output
    folders = [str(original.root), str(copy.root)]
    assert CliRunner().invoke(compare, folders).exit_code == 0
    assert CliRunner().invoke(compare, [*folders, "--fail-if-worse", "0.06"]).exit_code == 0
    failed = CliRunner().invoke(compare, [*folders, "--fail-if-worse", "0.02"])
    assert failed.exit_code == 1
    assert "-0.0500 worse" in failed.output
    reported = json.loads(CliRunner().invoke(compare, [*folders, "--format", "json"]).output)
    moved = [change for change in reported["changes"] if change["gain"]["mean"] != 0]
    assert [change["metric_id"] for change in moved] == ["accuracy"]
    assert CliRunner().invoke(compare, [*folders[::-1], "--fail-if-worse", "0.02"]).exit_code == 0


def test_scores_of_different_versions_of_a_metric_are_named_and_not_compared(original, copy) -> None:
    (record, *_) = of(copy, "healthy")
    newer = [
        score.model_copy(update={"version": 9, "value": 0.0}) if score.metric_id == "accuracy" else score
        for score in record.scores
    ]
    copy.write(record.model_copy(update={"scores": tuple(newer)}))
    folders = [str(original.root), str(copy.root)]
    reported = CliRunner().invoke(compare, [*folders, "--fail-if-worse", "0"])
    assert reported.exit_code == 0, reported.output
    assert "Not compared: accuracy of 1 runs: version 1 before, 9 after." in reported.output
    assert "run-benchmark rescore" in reported.output
    found = json.loads(CliRunner().invoke(compare, [*folders, "--format", "json"]).output)
    reason = "version 1 before, 9 after"
    assert found["not_compared"] == [{"metric_id": "accuracy", "n_runs": 1, "reason": reason}]
    (change,) = [
        change
        for change in found["changes"]
        if change["metric_id"] == "accuracy" and change["subject"]["method_id"] == "healthy"
    ]
    assert change["gain"]["n"] == len(of(original, "healthy")) - 1


def test_a_score_that_is_undefined_now_is_lost(original, copy) -> None:
    record = of(copy, "healthy")[0]
    gone = {"value": None, "reason": "no cells are left", "undefined_by": "output"}
    scores = [
        score.model_copy(update=gone) if score.metric_id == "accuracy" else score for score in record.scores
    ]
    copy.write(record.model_copy(update={"scores": tuple(scores)}))
    folders = [str(original.root), str(copy.root)]
    reported = CliRunner().invoke(compare, [*folders, "--fail-if-worse", "1"])
    assert reported.exit_code == 1, reported.output
    assert f"{record.split.split_id}, seed {record.seed}: no accuracy: no cells are left" in reported.output
    assert CliRunner().invoke(compare, [*folders[::-1], "--fail-if-worse", "1"]).exit_code == 0


def test_a_score_of_one_folder_only_is_lost_or_named(original, copy) -> None:
    record = of(copy, "healthy")[0]
    scores = tuple(score for score in record.scores if score.metric_id != "accuracy")
    copy.write(record.model_copy(update={"scores": scores}))
    folders = [str(original.root), str(copy.root)]
    gone = CliRunner().invoke(compare, [*folders, "--fail-if-worse", "1"])
    assert gone.exit_code == 1, gone.output
    assert f"{record.split.split_id}, seed {record.seed}: no accuracy: it was not computed" in gone.output
    gained = CliRunner().invoke(compare, [*folders[::-1], "--fail-if-worse", "1"])
    assert gained.exit_code == 0, gained.output
    assert "Not compared: accuracy of 1 runs: in the second folder only." in gained.output
    assert "rescore" not in gained.output


def test_a_metric_that_is_unknown_here_is_named(original) -> None:
    records = of(original, "healthy")
    specs = {name: spec for name, spec in registry.metrics().items() if name != "accuracy"}
    report = comparison.compare(records, records, specs)
    (apart,) = report.not_compared
    assert (apart.metric_id, apart.n_runs, apart.reason) == ("accuracy", len(records), "unknown here")
    assert report.changes and "accuracy" not in {change.metric_id for change in report.changes}


def test_genes_that_are_not_the_methods_own_choice_make_another_row(original) -> None:
    records = of(original, "healthy")
    method = records[0].method
    changes = {"features": "all", "given_features": "all", "name": f"{method.name}, all genes"}
    other = method.model_copy(update=changes)
    on_all = [
        with_value(run.model_copy(update={"method": other}), "accuracy", run.value("accuracy") / 2)
        for run in records
    ]
    both = [*records, *on_all]
    report = comparison.compare(both, both, registry.metrics())
    means = {c.subject.name: c.before for c in report.changes if c.metric_id == "accuracy"}
    (own, given) = sorted(means, key=len)
    assert given == own.replace("healthy", "healthy (all)", 1)
    assert means[given] == pytest.approx(means[own] / 2)
    apart = comparison.compare(records, on_all, registry.metrics())
    assert not apart.changes
    assert [len(apart.only_before), len(apart.only_after)] == [1, 1]


def test_data_of_one_name_are_compared_each_with_its_own(original) -> None:
    records = of(original, "healthy")
    small = records[0].dataset.model_copy(update={"digest": "f" * 64, "n_obs": 7})
    on_small = [
        with_value(run.model_copy(update={"dataset": small}), "accuracy", run.value("accuracy") / 2)
        for run in records
    ]
    both = [*records, *on_small]
    found = comparison.compare(both, both, registry.metrics()).changes
    means = {c.subject.data_version: c.before for c in found if c.metric_id == "accuracy"}
    assert len(means) == 2
    (whole,) = means.keys() - {"7 cells"}
    assert means["7 cells"] == pytest.approx(means[whole] / 2)
    apart = comparison.compare(records, on_small, registry.metrics())
    assert not apart.changes
    assert [one.subject.data_version for one in apart.only_after] == ["7 cells"]
    alone = comparison.compare(records, records, registry.metrics()).changes
    assert {change.subject.data_version for change in alone} == {""}


def test_runs_of_one_folder_only_are_counted(original) -> None:
    records = of(original, "healthy")
    report = comparison.compare(records, records[1:], registry.metrics())
    (alone,) = report.only_before
    assert (alone.n_runs, alone.of, report.only_after) == (1, len(records), ())
    none = comparison.compare(records, [], registry.metrics())
    assert [found.n_runs for found in none.only_before] == [len(records)]
    failed = [run.model_copy(update={"status": "failed", "reason": "x", "scores": ()}) for run in records]
    assert (none.n_absent, comparison.compare(failed, [], registry.metrics()).n_absent) == (len(records), 0)


def test_a_run_that_ended_well_and_is_absent_now_counts_as_worse(original, copy) -> None:
    shutil.rmtree(copy.run_folder(of(copy, "healthy")[0].run_id))
    folders = [str(original.root), str(copy.root)]
    reported = CliRunner().invoke(compare, [*folders, "--fail-if-worse", "1"])
    assert reported.exit_code == 1, reported.output
    assert "0 worse by more than 1, 0 lost, 1 absent from the second folder." in reported.output
    assert CliRunner().invoke(compare, [*folders[::-1], "--fail-if-worse", "1"]).exit_code == 0


def test_a_run_that_ends_badly_now_is_lost(original, copy) -> None:
    victim = of(copy, "healthy")[0]
    changes = {"status": "timeout", "reason": "too slow", "scores": (), "outputs": None}
    copy.write(victim.model_copy(update=changes))
    done = CliRunner().invoke(compare, [str(original.root), str(copy.root), "--fail-if-worse", "0.9"])
    assert done.exit_code == 1
    assert "Lost: healthy" in done.output and "timeout: too slow" in done.output


def test_a_newer_version_of_a_method_is_compared_with_the_older(original) -> None:
    before = of(original, "healthy")
    after = [
        record.model_copy(update={"method": record.method.model_copy(update={"version": 2, "packages": {}})})
        for record in before
    ]
    report = comparison.compare(before, after, registry.metrics())
    assert report.changes and not report.only_before and not report.only_after


def test_folders_without_a_common_run_are_refused(original, planned, carried_out, tmp_path) -> None:
    other = carried_out(planned("random_label"), tmp_path / "other")
    with pytest.raises(UserError, match="have no run in common"):
        compare.main([str(original.root), str(other.root)], standalone_mode=False)


def test_the_suite_of_a_strangers_folder_is_read_only_on_request(copy, plugin, tmp_path) -> None:
    """Attack: a suite beside a record names the data, at any address or in any file."""
    record = of(copy, "healthy")[0]
    (tmp_path / "mine.h5ad").write_text("private")
    suite = json.loads((copy.root / "suite.json").read_text())
    own = {
        "dataset_id": "theirs",
        "title": "T",
        "source": {"kind": "file", "path": str(tmp_path / "mine.h5ad")},
    }
    suite["data"] = [own | {"label_key": "label"}]
    (copy.root / "suite.json").write_text(json.dumps(suite))
    named = record.model_copy(update={"dataset": record.dataset.model_copy(update={"dataset_id": "theirs"})})
    copy.write(named)
    arguments = [str(record_file(copy, named)), "--plugin", str(plugin)]
    done = CliRunner().invoke(reproduce, arguments)
    assert "Data set 'theirs' is not in the catalogue" in str(done.exception)
    assert "--data-of-folder" in str(done.exception)
    done = CliRunner().invoke(reproduce, [*arguments, "--data-of-folder"])
    assert "mine.h5ad" in str(done.exception), "now it is read"


@pytest.mark.parametrize("text", ["{", '{"schema_version": 9}', "[[[[", '{"data": 1}'])
def test_a_damaged_suite_beside_a_record_does_no_harm(copy, plugin, text: str) -> None:
    (copy.root / "suite.json").write_text(text)
    record = of(Store(copy.root), "raises")[0]
    done = CliRunner().invoke(reproduce, [str(record_file(copy, record)), "--plugin", str(plugin)])
    assert done.exit_code == 0, done.output
