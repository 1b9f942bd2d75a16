"""Which pictures are drawn again, and which are taken from the last report."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from cellular_bench.benchmark.analysis.curves import Curve
from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.types import MetricSpec
from cellular_bench.workflows import figures as drawings
from cellular_bench.workflows.figures import Drawing, Kept, averaged_curves, drawings_of


def test_a_run_done_again_is_another_picture(
    make: Callable[..., RunRecord], specs: dict[str, MetricSpec], tmp_path: Path
) -> None:
    kept = Kept((Store.claim(tmp_path),), tmp_path)

    def confusion(run: RunRecord) -> Drawing:
        (board,) = build_boards([run], specs.values())
        return next(drawing for drawing in drawings_of(kept, board) if drawing.kind == "confusion")

    run = make("SciBet", 0, {"accuracy": 0.91}, task="annotation", confusion={"a": {"a": 1}})
    again = run.model_copy(update={"started_at": run.started_at + timedelta(hours=1)})
    assert confusion(run).file == confusion(run).file
    assert confusion(run).file != confusion(again).file
    assert confusion(run).title == confusion(again).title


def test_curves_are_averaged_over_the_units_of_the_scores(
    make: Callable[..., RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three runs of one split and one of another: the mean of the tables is .5, so is that of curves."""
    runs = tuple(
        make("SciBet", split, {"auroc": y}, task="novelty")
        for split, y in ((0, 0.9), (0, 0.9), (0, 0.9), (1, 0.1))
    )
    monkeypatch.setattr(drawings, "read_run", lambda store, run: (run, None))
    drawing = Drawing(
        kind="curves", board_id="b", method_id="", title="", file=tmp_path / "f",
        runs=(*runs, *runs), names=("whole",) * 4 + ("part",) * 4,
    )  # fmt: skip
    n_drawn = 0

    def curve(run: RunRecord, _: None) -> Curve | None:
        nonlocal n_drawn
        n_drawn += 1  # the last run of the second method has no curve
        return Curve(x=np.arange(2.0), y=np.full(2, run.value("auroc"))) if n_drawn < 8 else None

    found = averaged_curves(Kept((Store.claim(tmp_path),), tmp_path), drawing, curve)
    assert found.keys() == {"whole"}
    assert found["whole"].y.tolist() == pytest.approx([0.5, 0.5])
