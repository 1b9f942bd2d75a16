"""What was computed once is not computed again, and what is damaged is noticed."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cellular_bench.benchmark.execution import preparation
from cellular_bench.benchmark.execution.executor import Executor
from cellular_bench.benchmark.execution.machine import current_environment
from cellular_bench.benchmark.plan import installed
from cellular_bench.benchmark.results import index
from cellular_bench.benchmark.results.index import RunSummary
from cellular_bench.benchmark.results.merge import merge, problem, replaced_by, take_over
from cellular_bench.benchmark.results.progress import mark_running, overview, write_plan
from cellular_bench.benchmark.results.store import INDEX, Store
from cellular_bench.benchmark.schema.record_files import NewerVersionError, read_record
from cellular_bench.benchmark.schema.records import Limits, Outcome, RunRecord
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.cli.run import command as run_command
from cellular_bench.cli.status import lines
from cellular_bench.core.errors import UserError

KFOLD = {"kind": "kfold", "n_splits": 2}


@pytest.fixture(scope="module")
def plan(planned):
    return planned("healthy", "raises", split=KFOLD)


@pytest.fixture(scope="module")
def original(plan, carried_out, tmp_path_factory) -> Store:
    return carried_out(plan, tmp_path_factory.mktemp("resume") / "out")


@pytest.fixture
def copy(original, tmp_path) -> Store:
    """A folder of its own, to be damaged."""
    shutil.copytree(original.root, tmp_path / "copy")
    return Store.open(tmp_path / "copy")


def first(store: Store, status: str):
    return next(record for record in store.records() if record.status == status)


def stamps(store: Store) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in store.root.glob("runs/*/record.json")}


def test_the_packages_of_a_method_are_part_of_its_identity(planned, monkeypatch) -> None:
    before = planned("knn").runs[0]
    assert set(before.method.packages) == {"anndata", "numpy", "scikit-learn", "scipy"}
    assert before.method.packages["numpy"] == np.__version__
    real = installed.version
    monkeypatch.setattr(installed, "version", lambda name: "9.9" if name == "pandas" else real(name))
    assert planned("knn").runs[0].run_id == before.run_id, "pandas is nothing that kNN asks for"
    monkeypatch.setattr(installed, "version", lambda name: "9.9" if name == "scikit-learn" else real(name))
    assert planned("knn").runs[0].run_id != before.run_id


def test_an_absent_package_is_recorded_as_such() -> None:
    assert installed.packages_of(["no_such_module_at_all"])["no_such_module_at_all"] == "not installed"


def pretend_installed(monkeypatch, *modules: str) -> None:
    """Pretend that modules came with a package each, called NAME-package 1.0."""
    real, found = installed.version, installed.distributions_by_module()
    came = {f"{name}-package": "1.0" for name in modules}
    monkeypatch.setattr(installed, "version", lambda name: came.get(name) or real(name))
    more = {name: [f"{name}-package"] for name in modules}
    monkeypatch.setattr(installed, "distributions_by_module", lambda: {**found, **more})


def test_a_run_replaces_the_one_that_lacked_a_package(planned, carried_out, tmp_path, monkeypatch) -> None:
    before = planned("needs_missing", "healthy")
    store = carried_out(before, tmp_path / "out")
    assert len(list(store.records())) == 2
    assert replaced_by(before.runs, store) == {run.run_id: [] for run in before.runs}
    pretend_installed(monkeypatch, "no_such_module_at_all")
    after = planned("needs_missing", "healthy")
    assert after.runs[0].run_id != before.runs[0].run_id
    assert after.runs[1].run_id == before.runs[1].run_id
    carried_out(after, store.root)
    assert {record.run_id for record in store.records()} == {run.run_id for run in after.runs}


def not_applicable(run, **packages: str) -> RunRecord:
    """The record of a run that did not apply with other versions of packages."""
    method = run.method.model_copy(update={"packages": packages})
    now = datetime.now(UTC)
    asked = run.model_copy(update={"method": method, "run_id": f"{run.run_id[:-10]}{'0' * 10}"})
    outcome = Outcome(status="not_applicable", reason="Needs something.")
    return RunRecord.of(asked, outcome, environment=current_environment(), started_at=now, finished_at=now)


@pytest.mark.parametrize(
    ("packages", "changes", "is_replaced"),
    [
        ({"a": "not installed"}, {}, True),
        ({"a": "not installed", "b": "not installed"}, {}, True),
        ({"environment e": "missing"}, {}, True),
        ({"a": "not installed"}, {"study_metrics": None}, True),
        ({"a": "not installed"}, {"study_metrics": True}, False),
        ({"a": "not installed"}, {"status": "failed"}, False),
        ({"a": "not installed"}, {"seed": 1}, False),
        ({"numpy": "1.0"}, {}, False),
    ],
)
def test_only_a_run_that_did_not_apply_for_want_of_something_is_replaced(
    planned, tmp_path, packages, changes, is_replaced: bool
) -> None:
    plan = planned("healthy")
    store = Store.create(tmp_path / "out", plan.suite)
    record = not_applicable(plan.runs[0], **packages).model_copy(update=changes)
    store.write(record)
    assert replaced_by(plan.runs, store) == {plan.runs[0].run_id: [record.run_id] if is_replaced else []}


def test_a_run_that_lacks_the_same_is_not_replaced(planned, tmp_path) -> None:
    """Two environments that share a folder do not delete what the other one wrote."""
    plan = planned("needs_missing")
    store = Store.create(tmp_path / "out", plan.suite)
    store.write(not_applicable(plan.runs[0], no_such_module_at_all="not installed", numpy="1.0"))
    assert replaced_by(plan.runs, store) == {plan.runs[0].run_id: []}


def test_a_record_of_a_newer_version_is_neither_damaged_nor_replaced(plan, copy, carried_out) -> None:
    path = copy.run_folder(first(copy, "failed").run_id) / "record.json"
    path.write_text(path.read_text().replace('"schema_version": 2', '"schema_version": 3'))
    for read in (lambda: list(copy.records()), copy.damaged, lambda: carried_out(plan, copy.root)):
        with pytest.raises(NewerVersionError, match=r"schema version 3; this one reads up to 2.*--upgrade"):
            read()
    assert '"schema_version": 3' in path.read_text()


def test_what_did_not_apply_is_done_again_on_request(plugin, tmp_path) -> None:
    arguments = [
        "--method",
        "needs_missing",
        "--dataset",
        "simulated_small",
        "--split",
        "all",
        "--no-figures",
    ]
    arguments += ["--seeds", "0", "--plugin", str(plugin), "--out", str(tmp_path / "out")]
    todo = []
    for more in ([], [], ["--retry", "not_applicable"]):
        done = CliRunner().invoke(run_command, [*arguments, *more])
        assert done.exit_code == 0, done.output
        todo.append("1 runs, 1 to do" in done.output)
    assert todo == [True, False, True]


def test_results_of_another_folder_are_taken_over_whole(plan, original, carried_out, tmp_path) -> None:
    store = Store.create(tmp_path / "new", plan.suite)
    assert take_over(plan.runs, [original], store) == 4
    assert Executor(store=store).missing(plan) == []
    for record in original.records():
        assert store.record(record.run_id) == record
        truth = store.split_folder(record.dataset, record.split)
        assert preparation.is_prepared(truth), "pictures and new scores need it"
    ok = first(store, "ok")
    assert problem(store, ok) is None
    assert ok.outputs.n_bytes == (store.run_folder(ok.run_id) / "outputs.npz").stat().st_size


def test_runs_to_be_tried_again_and_damaged_outputs_are_not_taken_over(plan, copy, tmp_path) -> None:
    victim = first(copy, "ok")
    path = copy.run_folder(victim.run_id) / "outputs.npz"
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    store = Store.create(tmp_path / "new", plan.suite)
    assert take_over(plan.runs, [copy], store, retry={"failed"}) == 1
    assert [record.status for record in store.records()] == ["ok"]
    assert store.record(victim.run_id) is None


@pytest.mark.parametrize(("recorded", "asked", "taken"), [(10, 20, 0), (20, 20, 1), (30, 20, 1)])
def test_a_timeout_counts_again_only_where_the_limit_was_not_tighter(
    planned, original, tmp_path, recorded: float, asked: float, taken: int
) -> None:
    plan = planned("raises", time_limit_s=asked)
    source = Store.create(tmp_path / "source", plan.suite)
    ended = first(original, "failed").model_copy(
        update={
            "run_id": plan.runs[0].run_id,
            "status": "timeout",
            "limits": Limits(time_limit_s=recorded),
        }
    )
    source.write(ended)
    assert take_over(plan.runs, [source], Store.create(tmp_path / "new", plan.suite)) == taken


@pytest.mark.parametrize(("recorded", "asked", "taken"), [(None, 900, 1), (500, 900, 0), (900, None, 0)])
def test_a_run_out_of_gpu_memory_counts_again_only_where_that_limit_was_not_tighter(
    planned, original, tmp_path, recorded: float | None, asked: float | None, taken: int
) -> None:
    plan = planned("raises", gpu_memory_limit_mib=asked)
    source = Store.create(tmp_path / "source", plan.suite)
    changed = {
        "run_id": plan.runs[0].run_id,
        "status": "out_of_memory",
        "limits": plan.runs[0].limits.model_copy(update={"gpu_memory_limit_mib": recorded}),
    }
    source.write(first(original, "failed").model_copy(update=changed))
    assert take_over(plan.runs, [source], Store.create(tmp_path / "new", plan.suite)) == taken


@pytest.mark.parametrize("damage", ["record", "outputs", "cells", "data"])
def test_a_half_written_file_is_noticed_and_redone(plan, copy, carried_out, damage: str) -> None:
    victim = first(copy, "ok")
    files = {
        "record": copy.run_folder(victim.run_id) / "record.json",
        "outputs": copy.run_folder(victim.run_id) / "outputs.npz",
        "cells": copy.split_folder(victim.dataset, victim.split) / "cells.npz",
        "data": copy.data_file(victim.dataset),
    }
    path = files[damage]
    os.truncate(path, path.stat().st_size // 2)
    if damage in ("cells", "data"):  # they are looked at only where a run needs them
        copy.forget([victim.run_id])
    before = stamps(copy)
    carried_out(plan, copy.root)
    again = copy.record(victim.run_id)
    assert (again.status, again.scores) == (victim.status, victim.scores)
    assert {name for name, stamp in stamps(copy).items() if before.get(name) != stamp} == {victim.run_id}


def test_damaged_records_are_listed_and_do_not_hide_the_others(copy) -> None:
    victim = first(copy, "ok").run_id
    (copy.run_folder(victim) / "record.json").write_text('{"run_id": ')
    assert len(list(copy.records())) == 3
    (damaged,) = copy.damaged()
    assert damaged.run_id == victim
    assert "is not a run record" in damaged.reason


def test_a_folder_whose_creation_was_interrupted_is_used(tmp_path) -> None:
    block = {"task": "annotation", "datasets": ["a"], "methods": ["b"], "splits": ["all"]}
    suite = Suite(suite_id="s", title="S", blocks=[block])
    (tmp_path / "out" / "runs").mkdir(parents=True)
    assert Store.create(tmp_path / "out", suite).suite == suite
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not empty and not a result folder"):
        Store.create(tmp_path / "strange", suite)


def test_status_counts_what_ended_runs_and_waits(plan, copy) -> None:
    waits, runs = [record.run_id for record in copy.records() if record.status == "ok"]
    copy.forget([waits, runs])
    write_plan(copy, plan.runs, n_jobs=2)
    copy.run_folder(runs).mkdir()
    mark_running(copy.run_folder(runs))
    with copy.locked():
        seen = overview(copy)
    assert dict(seen.statuses) == {"failed": 2}
    assert set(seen.running) == {runs}
    assert (seen.n_planned, seen.n_waiting, seen.n_other) == (4, 1, 0)
    ((reason, count),) = seen.failures.items()
    assert reason[0] == "failed" and "no luck today" in reason[1] and count == 2
    assert seen.seconds_left > 0
    assert "2 of 4 runs done; running." in list(lines(seen))
    stopped = overview(copy)
    assert stopped.interrupted == (runs,) and not stopped.running


def test_time_left_is_what_runs_of_the_method_took(plan, copy) -> None:
    healthy = [record for record in copy.records() if record.status == "ok"]
    start = datetime.now(UTC)
    for seconds, record in zip((10, 30), [r for r in copy.records() if r.status == "failed"], strict=True):
        ended = {"started_at": start, "finished_at": start + timedelta(seconds=seconds)}
        copy.write(record.model_copy(update=ended))
    ended = {"started_at": start, "finished_at": start + timedelta(seconds=100)}
    copy.write(healthy[0].model_copy(update=ended))
    copy.forget([healthy[1].run_id])
    write_plan(copy, plan.runs, n_jobs=1)
    assert overview(copy).seconds_left == pytest.approx(100)
    write_plan(copy, plan.runs, n_jobs=4)
    assert overview(copy).seconds_left == pytest.approx(25)


def test_folders_are_merged_and_disagreements_named(plan, original, copy, tmp_path) -> None:
    victim = first(copy, "ok")
    score = victim.scores[0].model_copy(update={"value": 0.123})
    later = victim.finished_at + timedelta(hours=1)
    changed = {"scores": (score, *victim.scores[1:]), "finished_at": later}
    copy.write(victim.model_copy(update=changed))
    broken = first(copy, "failed").run_id
    (copy.run_folder(broken) / "record.json").write_text("{")
    merged = merge([original, copy], tmp_path / "all")
    assert merged.n_records == 4
    assert merged.differing == [victim.run_id]
    assert len(merged.refused) == 1 and broken in merged.refused[0]
    assert read_record(tmp_path / "all" / "runs" / victim.run_id / "record.json").scores[0].value == 0.123
    assert Store.open(tmp_path / "all").suite.blocks == plan.suite.blocks * 2
    with pytest.raises(UserError, match="is there already"):
        merge([original], tmp_path / "all")


def test_the_index_says_what_the_records_say_whatever_became_of_it(copy) -> None:
    lines = copy.root / INDEX
    assert len(lines.read_text().splitlines()) == 4, "a line was added as each record was written"

    def check() -> None:
        found, damaged = index.read(copy, keep=True)
        assert found == [RunSummary.model_validate(record) for record in copy.records()]
        assert damaged == copy.damaged()

    check()
    values = {score.metric_id: score.value for score in first(copy, "ok").scores if score.value is not None}
    assert next(run for run in index.read(copy)[0] if run.status == "ok").values == values

    copy.write(first(copy, "failed").model_copy(update={"reason": "another one"}))  # past the index
    check()
    os.truncate(lines, lines.stat().st_size - 20)  # what a killed benchmark leaves
    index.append(copy, first(copy, "ok"))
    check()
    assert len(lines.read_text().splitlines()) == 4, "replaced as a whole"
    lines.unlink()
    check()
    copy.forget([first(copy, "ok").run_id])
    (copy.run_folder(first(copy, "failed").run_id) / "record.json").write_text("{")
    check()
    assert len(index.read(copy)[1]) == 1


def test_fresh_forgets_only_the_runs_that_are_asked_for(copy) -> None:
    kept, forgotten = (first(copy, status).run_id for status in ("failed", "ok"))
    copy.forget([forgotten, "never-heard-of"])
    assert copy.record(kept) is not None
    assert not copy.run_folder(forgotten).exists()


def test_asking_whether_a_folder_is_in_use_changes_nothing(tmp_path) -> None:
    (tmp_path / "runs").mkdir()
    store = Store.open(tmp_path)
    assert not store.is_locked
    assert [path.name for path in Path(tmp_path).iterdir()] == ["runs"]
    with store.locked():
        assert store.is_locked
