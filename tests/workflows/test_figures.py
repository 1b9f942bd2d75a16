"""Which pictures are drawn again, and which are taken from the last report."""

import errno
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from cellular_bench.benchmark.analysis.curves import Curve
from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.errors import UserError
from cellular_bench.core.types import MetricSpec
from cellular_bench.reports import Figure, build_report, write
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


# Attacks through the files of figures: damaged, linked, on a full disk.


def _confusions(make: Callable[..., RunRecord], names: Sequence[str] = ("SciBet",)) -> list[RunRecord]:
    counts = {"a": {"a": 1, "b": 2}, "b": {"b": 1}}
    return [make(name, 0, {"accuracy": 0.9}, task="annotation", confusion=counts) for name in names]


def _drawn(runs: Sequence[RunRecord], specs: dict[str, MetricSpec], out: Path) -> list[Figure]:
    boards = build_boards(runs, specs.values())
    figures = drawings.draw([Store.claim(out)], out, boards, n_jobs=1)
    return [figure for figure in figures if figure.kind == "confusion"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-100]),
        lambda file: file.write_bytes(b"<svg onload=alert(1)>"),
        lambda file: file.with_suffix(".json").write_text('{"caption": "cut of'),
        lambda file: file.with_suffix(".json").write_text("[" * 100_000),
        lambda file: file.with_suffix(".json").write_text('{"caption": "x", "alt": "y", "kind": "cost"}'),
        lambda file: file.with_suffix(".json").write_bytes(b"\xff"),
        lambda file: (file.unlink(), file.symlink_to("/etc/passwd")),
        lambda file: (file.unlink(), os.mkfifo(file)),
    ],
    ids=["empty", "half", "other", "half words", "deep words", "more words", "no text", "link", "pipe"],
)
def test_a_damaged_figure_is_drawn_again(
    make: Callable[..., RunRecord],
    specs: dict[str, MetricSpec],
    tmp_path: Path,
    damage: Callable[[Path], object],
) -> None:
    runs = _confusions(make)
    (first,) = _drawn(runs, specs, tmp_path)
    (file,) = (tmp_path / "figures").glob("*-confusion-*.webp")
    damage(file)
    (again,) = _drawn(runs, specs, tmp_path)
    assert (again.data[:4], again.caption) == (b"RIFF", first.caption)
    assert file.is_file() and not file.is_symlink()


def test_a_figure_that_cannot_be_drawn_is_named_on_the_page_and_the_others_are_drawn(
    make: Callable[..., RunRecord], specs: dict[str, MetricSpec], tmp_path: Path
) -> None:
    bad, good = _confusions(make, ("Bad", "Good"))
    bad = bad.model_copy(update={"confusion": {"a": {"a": 0}}})
    figures = _drawn([bad, good], specs, tmp_path)
    assert sorted(bool(figure.data) for figure in figures) == [False, True]
    (missing,) = (figure for figure in figures if not figure.data)
    assert missing.caption == "No figure of Bad, 1 run: it could not be drawn."
    report = build_report([bad, good], specs, title="t")
    text = write(report, tmp_path / "out", figures=figures, formats=["html"])[0].read_text("utf-8")
    assert missing.caption in text


def test_a_full_disk_leaves_no_part_of_a_figure(
    make: Callable[..., RunRecord],
    specs: dict[str, MetricSpec],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = Kept((Store.claim(tmp_path),), tmp_path)
    (tmp_path / "figures").mkdir()
    (board,) = build_boards(_confusions(make), specs.values())
    drawing = next(drawing for drawing in drawings_of(kept, board) if drawing.kind == "confusion")

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        drawing.write(drawing.figure(caption="c", data=b"RIFF" + bytes(100)))
    monkeypatch.undo()
    assert list((tmp_path / "figures").iterdir()) == []
    assert drawing.read() is None


def test_figures_are_not_written_through_links(
    make: Callable[..., RunRecord], specs: dict[str, MetricSpec], tmp_path: Path
) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / "out" / "runs").mkdir(parents=True)
    (tmp_path / "out" / "figures").symlink_to(tmp_path / "else")
    with pytest.raises(UserError, match="is a symbolic link"):
        _drawn(_confusions(make), specs, tmp_path / "out")
    (tmp_path / "out" / "figures").unlink()
    (tmp_path / "out" / "figures").mkdir()
    (tmp_path / "private").write_text("keep")
    (tmp_path / "out" / "figures" / "part-0.log").symlink_to(tmp_path / "private")
    _drawn(_confusions(make), specs, tmp_path / "out")
    assert (tmp_path / "private").read_text() == "keep"
    assert list((tmp_path / "else").iterdir()) == []
