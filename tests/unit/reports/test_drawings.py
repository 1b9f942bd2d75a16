"""Which pictures are drawn again, and which are taken from the last report."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from cellular_bench.benchmark.cli.drawings import Drawing, Kept, _drawings
from cellular_bench.benchmark.leaderboard import build_boards
from cellular_bench.benchmark.records import RunRecord
from cellular_bench.benchmark.store import Store
from cellular_bench.benchmark.types import MetricSpec


def test_a_run_done_again_is_another_picture(
    make: Callable[..., RunRecord], specs: dict[str, MetricSpec], tmp_path: Path
) -> None:
    kept = Kept((Store.claim(tmp_path),), tmp_path)

    def confusion(run: RunRecord) -> Drawing:
        (board,) = build_boards([run], specs.values())
        return next(drawing for drawing in _drawings(kept, board) if drawing.kind == "confusion")

    run = make("SciBet", 0, {"accuracy": 0.91}, task="annotation")
    again = run.model_copy(update={"started_at": run.started_at + timedelta(hours=1)})
    assert confusion(run).file == confusion(run).file
    assert confusion(run).file != confusion(again).file
    assert confusion(run).title == confusion(again).title
