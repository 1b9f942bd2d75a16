"""A folder of version 0.1.0 is read, reported, scored again, resumed and merged, and loses nothing."""

import html
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cellular_bench.benchmark.analysis.leaderboard import method_key
from cellular_bench.benchmark.plan import identity, installed
from cellular_bench.benchmark.results import index
from cellular_bench.benchmark.results.merge import merge
from cellular_bench.benchmark.results.store import Store
from cellular_bench.cli.report import command as report_command
from cellular_bench.cli.rescore import command as rescore_command
from cellular_bench.cli.run import command as run_command

OLD = Path(__file__).parents[2] / "data" / "results-0.1.0"
STATUSES = {"ok": 18, "failed": 2, "not_applicable": 3, "timeout": 2}


@pytest.fixture
def old(tmp_path: Path) -> Store:
    """A copy of the folder, whose files are as old as its index says."""
    shutil.copytree(OLD / "results", tmp_path / "old")
    for line in (tmp_path / "old" / "index.jsonl").read_text().splitlines():
        (modified, _), fields = json.loads(line)
        os.utime(record_file(tmp_path / "old", fields["run_id"]), ns=(modified, modified))
    return Store.open(tmp_path / "old")


@pytest.fixture
def as_then(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have the packages and the protocol that the folder was written with, and none of the environments."""
    then: dict[str, str] = {}
    for _, record in written():
        then |= record["environment"]["packages"]
    real = installed.version
    monkeypatch.setattr(installed, "version", lambda name: then.get(name) or real(name))
    monkeypatch.setattr(identity, "PROTOCOL_VERSION", 1)
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(tmp_path / "cache"))


def record_file(root: Path, run_id: str) -> Path:
    return root / "runs" / run_id / "record.json"


def written() -> list[tuple[str, dict[str, Any]]]:
    """The records as they are in the files, by the names of their folders."""
    paths = sorted((OLD / "results").glob("runs/*/record.json"))
    return [(path.parent.name, json.loads(path.read_text())) for path in paths]


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def kept(root: Path) -> dict[str, bytes]:
    """Everything that is kept of the runs beside their records, and the splits."""
    paths = [path for folder in ("runs", "splits") for path in (root / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths if path.name != "record.json"}


def extends(now: object, before: object) -> bool:
    """Whether all that was written is there; newer fields may stand beside it."""
    if isinstance(before, dict):
        return all(name in now and extends(now[name], value) for name, value in before.items())
    if isinstance(before, list):
        return len(now) == len(before) and all(map(extends, now, before))
    return now == before


def test_every_record_is_read_with_all_that_it_says(old: Store) -> None:
    records = {record.run_id: record for record in old.records()}
    assert old.damaged() == []
    assert Counter(record.status for record in records.values()) == STATUSES
    for run_id, before in written():
        now = records[run_id].model_dump(mode="json")
        del before["schema_version"]
        method, methods = before.pop("method"), now.pop("method")
        dataset, datasets = before.pop("dataset"), now.pop("dataset")
        assert methods | method == methods
        assert datasets | dataset == datasets
        assert datasets["gene_selection"] == {"flavor": "cell_ranger", "n_top_genes": 2000}
        assert extends(now, before)
        assert now["cost"] is None or now["cost"]["warm_up_s"] is None
        assert now["min_cells"] is None
        assert not any(score["left_out"] for score in now["scores"])
        assert methods["given_features"] == ("all" if "all genes" in method["name"] else None)
        del method["features"]
        assert method_key(records[run_id].method) == json.dumps(method, sort_keys=True), "the same row"


def test_its_index_is_used_as_it_is_and_says_what_the_records_say(old: Store, monkeypatch) -> None:
    lines = {}
    for line in (old.root / index.INDEX).read_text().splitlines():
        fields = json.loads(line)[1]
        lines[fields["run_id"]] = fields
    monkeypatch.setattr(Store, "record", None)  # no record is read
    found, damaged = index.read(old)
    assert damaged == []
    assert {summary.run_id for summary in found} == lines.keys() == {run_id for run_id, _ in written()}
    for summary in found:
        before = lines[summary.run_id]
        assert {name: getattr(summary, name) for name in before} == before
    (old.root / index.INDEX).unlink()
    assert index.read(old)[0] == found


def test_it_is_reported_with_a_row_for_each_method(old: Store) -> None:
    done = CliRunner().invoke(report_command, [str(old.root), "--no-figures"])
    assert done.exit_code == 0, done.output
    page = html.unescape((old.root / "leaderboard.html").read_text())
    for _, record in written():
        assert record["method"]["name"] in page
        assert record["reason"] is None or record["reason"].split(" (")[0] in page
    rows = (old.root / "scores.csv").read_text().splitlines()
    assert len(rows) > sum(len(record["scores"]) for _, record in written())


def test_its_outputs_give_the_same_scores(old: Store) -> None:
    done = CliRunner().invoke(rescore_command, [str(old.root)])
    assert done.exit_code == 0, done.output
    n_compared = 0
    for run_id, before in written():
        now = {score.metric_id: score for score in old.record(run_id).scores}
        for score in before["scores"]:
            again = now[score["metric_id"]]
            if again.version == score["version"]:
                assert again.value == pytest.approx(score["value"], abs=1e-6), score["metric_id"]
                assert again.undefined_by == score["undefined_by"]
                n_compared += 1
    assert n_compared > 200


@pytest.mark.parametrize("suite", ["embeddings", "study", "cells"])
def test_the_same_request_runs_nothing_again(old: Store, as_then: None, suite: str) -> None:
    """Nothing but Harmony, whose parameters have other defaults now."""
    before, others = files(old.root), kept(old.root)
    done = run(old, suite)
    n_repeated = 1 if suite == "embeddings" else 0
    assert f" {n_repeated} to do" in done.output, done.output
    assert files(old.root) >= before
    now = kept(old.root)
    assert {path: now[path] for path in others} == others
    assert n_repeated or now.keys() == others.keys()
    for run_id, record in written():
        assert json.loads(record_file(old.root, run_id).read_text()) == record


def test_runs_of_another_protocol_are_done_again(old: Store, as_then: None, monkeypatch) -> None:
    """Cells came in the order of the file; nothing of before is deleted."""
    monkeypatch.setattr(identity, "PROTOCOL_VERSION", 2)
    before = {run_id for run_id, _ in written()}
    done = run(old, "embeddings", "--method", "pca")
    assert " 1 to do" in done.output, done.output
    now = {record.run_id for record in old.records()}
    assert now > before
    again = {run_id.rpartition("-")[0] for run_id in now - before}
    assert again == {"integration-simulated_small-all-pca-s0"}


def run(store: Store, suite: str, *more: str):
    arguments = ["--suite", str(OLD / f"{suite}.toml"), "--plugin", str(OLD / "methods.py"), *more]
    return CliRunner().invoke(
        run_command, [*arguments, "--no-figures", "--no-leak-canary", "--out", str(store.root)]
    )


def test_what_lacked_a_package_is_replaced_once_it_is_there(old: Store, as_then: None, monkeypatch) -> None:
    real, version = installed.distributions_by_module(), installed.version
    monkeypatch.setattr(
        installed, "distributions_by_module", lambda: {**real, "no_such_module": ["new-package"]}
    )
    monkeypatch.setattr(installed, "version", lambda name: "1.0" if name == "new-package" else version(name))
    lacked = {run_id for run_id, record in written() if record["method"]["method_id"] == "needs_missing"}
    done = run(old, "cells")
    assert " 2 to do" in done.output, done.output
    now = {record.run_id for record in old.records()}
    assert {run_id for run_id, _ in written()} - now == lacked
    again = [record for record in old.records() if record.method.method_id == "needs_missing"]
    assert len(again) == len(lacked) == 2
    assert all(record.method.packages["new-package"] == "1.0" for record in again)


def test_it_is_merged_whole(old: Store, tmp_path: Path) -> None:
    merged = merge([old], tmp_path / "merged")
    assert (merged.n_records, merged.statuses) == (len(written()), STATUSES)
    assert merged.refused == merged.differing == []
    assert list(Store.open(tmp_path / "merged").records()) == list(old.records())
    copied = kept(tmp_path / "merged")
    lost = {name for name, content in kept(old.root).items() if copied.get(name) != content}
    assert {Path(name).name for name in lost} <= {"log.txt"}, "only the logs of preparing are left behind"
    assert all(name.startswith("splits/") for name in lost)
