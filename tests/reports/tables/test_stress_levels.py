"""Boards that differ in the level of a stress become one chart with its table."""

from pathlib import Path

import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.execution.executor import Executor
from cellular_bench.benchmark.plan.planner import plan
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.datasets import catalog
from cellular_bench.metrics import METRICS
from cellular_bench.reports import build_report, write
from cellular_bench.reports.tables.stress_levels import stress_series, stress_table


class Silent:
    def started(self, run: object) -> None: ...

    def finished(self, record: object) -> None: ...


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    dataset = catalog.load(catalog.specs()["simulated_small"])
    stress = {"kind": "label_noise", "levels": [0, 0.3, 0.6]}
    block = {
        "task": "annotation",
        "datasets": ["simulated_small"],
        "methods": ["nearest_centroid", "knn", "true_labels"],
        "splits": [{"kind": "kfold", "n_splits": 2, "stress": stress}],
    }
    suite = Suite(suite_id="test", title="Test", blocks=[block])
    store = Store.create(Path(tmp_path_factory.mktemp("curves")), suite)
    datasets = {"simulated_small": dataset}
    planned = plan(suite, datasets=datasets, methods=registry.methods())
    return list(Executor(store=store, n_jobs=2).execute(planned, datasets=datasets, progress=Silent()))


def test_levels_run_from_the_data_as_they_are_to_the_hardest(records):
    (chart,) = stress_series(build_boards(records, METRICS.values()))
    assert chart.levels == (0.0, 0.3, 0.6)
    assert len({board.board_id for board in chart.boards}) == 3
    assert [record.status for record in records] == ["ok"] * 18


def test_scores_are_those_of_the_boards_and_fall_for_methods_but_not_for_the_control(records):
    (chart,) = stress_series(build_boards(records, METRICS.values()))
    lines = {line.name: line for line in chart.lines}
    names = {record.method.method_id: record.method.name for record in records}
    assert [s.mean for s in lines[names["true_labels"]].scores] == [1.0, 1.0, 1.0]
    knn = [s.mean for s in lines[names["knn"]].scores]
    assert knn[0] > knn[1] > knn[2]
    for board, score in zip(chart.boards, knn, strict=True):
        (row,) = [row for row in board.rows if row.method.method_id == "knn"]
        assert row.overall.mean == score
    row = next(row for row in stress_table(chart).rows if row.name == names["knn"])
    assert [cell.text for cell in row.cells] == [f"{score:.3f}" for score in knn]


def test_the_page_shows_chart_and_table(records, tmp_path):
    write(build_report(records, METRICS, title="Curves"), tmp_path)
    page = (tmp_path / "leaderboard.html").read_text()
    assert "Stress tests" in page
    assert "wrong labels: 0.3 (share of training cells with a wrong label)" in page


def test_without_stress_there_is_no_chart(records):
    plain = [record for record in records if record.split.stress is None]
    assert stress_series(build_boards(plain, METRICS.values())) == ()
