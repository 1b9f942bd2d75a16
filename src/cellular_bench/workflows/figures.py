"""Figures of a result folder: what is to be drawn, drawn away from this process, kept for the next report."""

from __future__ import annotations

import hashlib
import json
import traceback
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from cellular_bench.benchmark.analysis import curves
from cellular_bench.benchmark.analysis.curves import Curve
from cellular_bench.benchmark.analysis.leaderboard import Board, BoardRow, method_key, unit_of
from cellular_bench.benchmark.execution.preparation import Truth, read_truth
from cellular_bench.benchmark.execution.run import HARNESS_LIMITS
from cellular_bench.benchmark.isolation.call import call
from cellular_bench.benchmark.results.contents import check_split
from cellular_bench.benchmark.results.store import ARTIFACTS, HISTORY, OUTPUTS, Store
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import (
    discard,
    folder_below,
    open_regular,
    read_regular,
    regular_below,
    write_atomically,
    write_text_atomically,
)
from cellular_bench.core.json_files import read_json
from cellular_bench.core.labels import are_labelled
from cellular_bench.core.outputs import Outputs, read_outputs
from cellular_bench.core.text import MOST_NAME, one_line
from cellular_bench.metrics.annotation.likelihood import STUDY_THRESHOLD
from cellular_bench.reports.figures import confusion_and_training
from cellular_bench.reports.figures.canvas import Figure, FigureKind
from cellular_bench.reports.figures.embeddings import embedding_figure
from cellular_bench.reports.figures.novelty_curves import novelty_curves_figure, risk_figure, samples_figure
from cellular_bench.reports.tables.formatting import anchor, plural
from cellular_bench.reports.tables.method_rows import full_names
from cellular_bench.reports.tables.model import MOST_CONTROLS, MOST_ROWS
from cellular_bench.workflows.progress import SILENT, Progress

#: The most bytes of a picture, of its words, and of the training that a method wrote down.
MOST_PICTURE_BYTES: Final = 2**26
MOST_WORDS_BYTES: Final = 2**20
MOST_HISTORY_BYTES: Final = 2**26


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of runs, in whichever of several result folders it is; pictures go to ``out``."""

    stores: tuple[Store, ...]
    out: Path

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of a run: the first with its outputs."""
        for store in self.stores:
            try:
                if store.run_file(run_id, OUTPUTS).exists():
                    return store.run_folder(run_id)
            except UserError:
                continue  # another folder may hold it, too
        return self.stores[0].run_folder(run_id)

    def run_file(self, run_id: str, *names: str) -> Path:
        """Return a file of a run, which need not be there; UserError if there is something else."""
        return regular_below(self.run_folder(run_id), *names)

    def split_folder(self, run: RunRecord) -> Path:
        """Return the folder with the truth of a run's split."""
        return self.with_split(run).split_folder(run.dataset, run.split)

    def with_split(self, run: RunRecord) -> Store:
        """Return the first result folder with a run's split."""
        found = (one for one in self.stores if one.split_folder(run.dataset, run.split).is_dir())
        return next(found, self.stores[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A figure to be drawn: of the outputs of a method's first run, of all its runs, or of all methods.

    Attributes
    ----------
    method_id
        Whose outputs it shows; empty for all methods of the board.
    names
        The name of each run's method on its board.
    file
        The picture; its caption and alternative text lie beside it as JSON.
    """

    kind: FigureKind
    board_id: str
    method_id: str
    title: str
    runs: tuple[RunRecord, ...]
    names: tuple[str, ...]
    file: Path

    @property
    def words_file(self) -> Path:
        """The file with caption and alternative text."""
        return self.file.with_suffix(".json")

    def read(self) -> Figure | None:
        """Return the figure as it was drawn; None if it is not there, or damaged: it is drawn again then."""
        try:
            data = read_regular(self.file, most_bytes=MOST_PICTURE_BYTES)
            words = read_json(self.words_file, what="caption", most_bytes=MOST_WORDS_BYTES)
        except (OSError, UserError):
            return None
        if not _is_whole(data) or not isinstance(words, dict) or set(words) != {"caption", "alt"}:
            return None
        caption, alt = map(str, (words["caption"], words["alt"]))
        return self.figure(data=data, caption=caption, alt=alt)

    def write(self, figure: Figure) -> None:
        """Keep a figure; OSError if the disk is full, and no part of it is left then."""
        write_atomically(self.file, figure.data)
        write_text_atomically(self.words_file, json.dumps({"caption": figure.caption, "alt": figure.alt}))

    def figure(self, *, caption: str, data: bytes = b"", alt: str = "") -> Figure:
        """Return a figure of this kind, board and method."""
        of = {"board_id": self.board_id, "method_id": self.method_id}
        return Figure(kind=self.kind, caption=caption, data=data, alt=alt, **of)


def _is_whole(data: bytes) -> bool:
    """Whether a WebP file has the length that its head names."""
    return (
        data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) == 8 + int.from_bytes(data[4:8], "little")
    )


def draw(
    stores: Sequence[Store], out: Path, boards: Sequence[Board], *, n_jobs: int, progress: Progress = SILENT
) -> list[Figure]:
    """Draw a figure per method and board, away from this process; drawn ones are reused.

    Of a figure that cannot be drawn, the page has a line that says so, and there is a warning: the numbers do
    not depend on it. Methods that no table shows have none.

    Parameters
    ----------
    stores
        The result folders that hold the runs.
    out
        Figures are kept in its folder ``figures``.

    Raises
    ------
    UserError
        If that folder is a link.
    """
    out.mkdir(parents=True, exist_ok=True)
    out = out.resolve()  # child processes work in other folders
    folder_below(out, "figures")
    store = Kept(tuple(stores), out)
    drawings = [drawing for board in boards for drawing in drawings_of(store, board)]
    missing = [drawing for drawing in drawings if drawing.read() is None]
    with ThreadPoolExecutor(n_jobs) as pool:
        # Few large parts: what UMAP compiles is compiled once per process.
        for done in [pool.submit(_draw_in_child, store, missing[i::n_jobs], i) for i in range(n_jobs)]:
            for problem in done.result():
                progress.warning(problem)
    return [
        drawing.read() or drawing.figure(caption=f"No figure of {drawing.title}: it could not be drawn.")
        for drawing in drawings
    ]


def drawings_of(store: Kept, board: Board) -> Iterator[Drawing]:
    """Yield the figures of a board: curves of all methods first, then those of each method."""
    common = _most_common(board)
    ended = [row for row in board.rows if row.done]
    shown = [row for row in ended if not row.method.is_control][:MOST_ROWS]
    shown += [row for row in ended if row.method.is_control][:MOST_CONTROLS]
    found = [drawing for row in shown for drawing in _of_method(store, board, row, common)]
    rows = [row for row in board.rows if row.done and not row.method.is_control]
    if rows and ("novelty" in TASKS[board.task].scored or any(row.done[0].confusion for row in rows)):
        yield _drawing(store, board, "curves", rows)
    yield from found


def _most_common(board: Board) -> tuple[str, int]:
    """Return digest and seed of the split that most methods ended well on, the first of equals."""
    ended = Counter(
        (run.split.split_id, run.split.digest, run.seed) for row in board.rows for run in row.done
    )
    (_, digest, seed), _ = min(ended.items(), key=lambda item: (-item[1], item[0]), default=(("", "", 0), 0))
    return digest, seed


def _of_method(store: Kept, board: Board, row: BoardRow, common: tuple[str, int]) -> Iterator[Drawing]:
    scored = TASKS[board.task].scored
    if not {"X_emb", "graph"}.isdisjoint(scored):
        same = [run for run in row.done if (run.split.digest, run.seed) == common]
        yield _drawing(store, board, "embedding", [replace(row, runs=tuple(same or row.done)[:1])])
    if row.done[0].confusion:
        yield _drawing(store, board, "confusion", [row])
    if "novelty" in scored and not row.method.is_control and _has_probabilities(store, row.done[0]):
        yield _drawing(store, board, "samples", [row])
    with_history = tuple(run for run in row.done if _has_history(store, run))
    if with_history:
        yield _drawing(store, board, "history", [replace(row, runs=with_history)])


def _drawing(store: Kept, board: Board, kind: FigureKind, rows: Sequence[BoardRow]) -> Drawing:
    shown = full_names(board)
    named = [(run, shown[method_key(row.method)]) for row in rows for run in row.done]
    runs, names = (tuple(part) for part in zip(*named, strict=True))
    # Other runs are another picture, a run done again too; hence their digest in the name.
    done = "\n".join(f"{run.run_id} {run.started_at.isoformat()}" for run in runs)
    digest = hashlib.sha256(done.encode()).hexdigest()[:12]
    name = names[0] if len(rows) == 1 else f"{len(rows)} methods"
    of = (
        f"{one_line(runs[0].split.split_id, MOST_NAME)}, seed {runs[0].seed}"
        if kind == "embedding"
        else plural(len(runs), "run")
    )
    return Drawing(
        kind=kind,
        board_id=board.board_id,
        method_id=rows[0].method.method_id if len(rows) == 1 and kind != "curves" else "",
        title=f"{name}, {of}",
        runs=runs,
        names=names,
        file=store.out / "figures" / f"{anchor(board.board_id)}-{kind}-{digest}.webp",
    )


def _has_probabilities(store: Kept, run: RunRecord) -> bool:
    """Look for the probabilities of a run by the names in its file, which is quick."""
    try:
        with open_regular(store.run_file(run.run_id, OUTPUTS)) as file, zipfile.ZipFile(file) as parts:
            return "label_proba.npy" in parts.namelist()
    except (FileNotFoundError, UserError):
        return False
    except (OSError, ValueError, zipfile.BadZipFile):
        return True  # damaged: that it cannot be drawn is to be said


def _has_history(store: Kept, run: RunRecord) -> bool:
    try:
        return _history_file(store, run).exists()
    except UserError:
        return False


def _history_file(store: Kept, run: RunRecord) -> Path:
    return store.run_file(run.run_id, ARTIFACTS, HISTORY)


def _draw_in_child(store: Kept, drawings: Sequence[Drawing], part: int) -> list[str]:
    """Draw in a process; return a sentence about each figure that could not be drawn."""
    if not drawings:
        return []
    log = store.out / "figures" / f"part-{part}.log"
    discard(log)
    ended = call(_draw_all, store, drawings, limits=HARNESS_LIMITS, log=log)
    failed = [drawing for drawing in drawings if drawing.read() is None]
    if not failed:
        log.unlink(missing_ok=True)
    why = f"{log} could not be written." if ended.is_log_lost else f"See {log}. {ended.reason or ''}".rstrip()
    return [f"No figure of {drawing.title}. {why}" for drawing in failed]


def _draw_all(store: Kept, drawings: Sequence[Drawing]) -> None:
    ways: dict[FigureKind, Callable[[Kept, Drawing], Figure]] = {
        "embedding": _draw_embedding,
        "confusion": _draw_confusion,
        "history": _draw_history,
        "curves": _draw_curves,
        "samples": _draw_samples,
    }
    for drawing in drawings:
        try:
            drawing.write(ways[drawing.kind](store, drawing))
        except Exception:
            traceback.print_exc()  # into the log that the message about this figure names


def _draw_embedding(store: Kept, drawing: Drawing) -> Figure:
    outputs, truth = read_run(store, drawing.runs[0])
    X_emb, what = outputs.X_emb, "Embedding"
    if X_emb is None:
        from sklearn.manifold import spectral_embedding

        graph: Any = outputs.graph
        n = min(10, graph.shape[0] - 2)
        # Linked cells lie together.
        X_emb = spectral_embedding(graph.maximum(graph.T), n_components=n, random_state=0)
        what = "Spectral coordinates of its graph"
    label = truth.label if are_labelled(truth.label) else np.full(len(truth.label), "no labels")
    return embedding_figure(X_emb, label, truth.batch, title=drawing.title, what=what)


def read_run(store: Kept, run: RunRecord) -> tuple[Outputs, Truth]:
    """Return the outputs of a run and what they are compared with."""
    check_split(store.with_split(run), run)
    return read_outputs(store.run_file(run.run_id, OUTPUTS)), read_truth(store.split_folder(run))


def _draw_confusion(store: Kept, drawing: Drawing) -> Figure:
    del store  # the records have it all
    total: dict[str, Counter[str]] = defaultdict(Counter)
    for run in drawing.runs:
        for label, predicted in run.confusion.items():
            total[label].update(predicted)
    return confusion_and_training.confusion_figure(total, title=drawing.title)


def _draw_history(store: Kept, drawing: Drawing) -> Figure:
    histories = {
        f"{run.split.split_id}, seed {run.seed}": read_json(
            _history_file(store, run), what="history", most_bytes=MOST_HISTORY_BYTES
        )
        for run in drawing.runs
    }
    return confusion_and_training.history_figure(histories, title=drawing.title)


def _draw_curves(store: Kept, drawing: Drawing) -> Figure:
    if drawing.runs[0].confusion:
        return risk_figure(averaged_curves(store, drawing, _risk))
    roc, precision_recall = (
        averaged_curves(store, drawing, partial(_of_novelty, curve))
        for curve in (curves.roc, curves.precision_recall)
    )
    return novelty_curves_figure(roc, precision_recall)


def averaged_curves(
    store: Kept, drawing: Drawing, curve: Callable[[Outputs, Truth], Curve | None]
) -> dict[str, Curve]:
    """Return the curve of each method that has one for all its runs, averaged as its scores are."""
    n_runs = Counter(drawing.names)
    found: dict[str, dict[str, list[Curve]]] = defaultdict(lambda: defaultdict(list))
    for name, run in zip(drawing.names, drawing.runs, strict=True):
        drawn = curve(*read_run(store, run))
        if drawn is not None:
            found[name][unit_of(run.split)[0]].append(drawn)
    return {
        name: curves.averaged([curves.averaged(unit) for unit in units.values()])
        for name, units in found.items()
        if sum(map(len, units.values())) == n_runs[name]
    }


def _of_novelty(curve: Callable[[Any, Any], Curve], outputs: Outputs, truth: Truth) -> Curve | None:
    return None if outputs.novelty is None else curve(outputs.novelty, truth.is_novel)


def _risk(outputs: Outputs, truth: Truth) -> Curve | None:
    if outputs.label_proba is None or outputs.label_pred is None:
        return None
    confidence = outputs.label_proba.max(axis=1)
    return curves.risk_coverage(truth.label, outputs.label_pred, confidence, outputs.rejected)


def _draw_samples(store: Kept, drawing: Drawing) -> Figure:
    samples = []
    for run in drawing.runs:
        outputs, truth = read_run(store, run)
        if outputs.label_proba is not None:
            held_out = " + ".join(run.split.unseen_labels)
            samples.append(curves.lowest(outputs.label_proba, truth.is_novel, held_out=held_out))
    return samples_figure(samples, threshold=STUDY_THRESHOLD, title=drawing.title)
