"""What a benchmark found, as tables: a result folder opened in Python."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.data_versions import versioned
from cellular_bench.benchmark.analysis.leaderboard import Board, build_boards
from cellular_bench.benchmark.execution.machine import usable_cores
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.weights import read_weights
from cellular_bench.core.errors import UserError
from cellular_bench.progress import ConsoleProgress
from cellular_bench.reports.tables.overview import canary_in_words
from cellular_bench.reports.text.markdown_and_csv import leaderboard_rows, scheme_of
from cellular_bench.workflows.export import score_frame
from cellular_bench.workflows.report import ReportRequest, for_tasks, write_reports

if TYPE_CHECKING:
    import pandas as pd

    from cellular_bench.benchmark.schema.records import RunRecord

#: Suffix of a report -> its format.
SUFFIXES = {".html": "html", ".csv": "csv", ".md": "md", ".tex": "latex"}


class Results:
    """The results of a folder; they are read again at each request.

    Parameters
    ----------
    folder
        A folder that ``run-benchmark run`` or :func:`cellular_bench.run` wrote.
    plugins
        Files with the metrics of your own that the runs were scored by, and with tasks of your own; without
        its file, a task has no board.

    Raises
    ------
    UserError
        If it is no result folder.

    Examples
    --------
    >>> Results("nowhere")
    Traceback (most recent call last):
    cellular_bench.core.errors.UserError: nowhere is not a result folder: it has no folder 'runs'.
    """

    def __init__(self, folder: Path | str, *, plugins: Sequence[Path | str] = ()) -> None:
        self._store = Store.open(Path(folder))
        registry.load([Path(path) for path in plugins])

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._store.root

    @property
    def records(self) -> list[RunRecord]:
        """The record of every run but leak canaries: versions, seeds, limits, costs, and how it ended."""
        return list(self._store.records())

    @property
    def failures(self) -> dict[str, str]:
        """Why each run without scores has none, by the name of the run."""
        return {run.run_id: f"{run.status}: {run.reason}" for run in self.records if run.status != "ok"}

    def to_frame(self) -> pd.DataFrame:
        """Return the rows of ``scores.csv``: one per run and metric, and per mean of a label or batch."""
        return score_frame(self.records)

    def leaderboard(
        self, task: str | None = None, dataset: str | None = None, *, weights: Any = None
    ) -> pd.DataFrame:
        """Return one row per method and board, the best of each board first.

        A board is a task on a data set under one kind of split. ``rank`` counts within a ``track`` (which
        labels a method saw); controls and incomplete methods have none. Scores are 0 to 1, higher is better.
        ``weights`` of aspects are the name of a rule, such as ``"scib"``, or ``{"ASPECT": weight}``; by
        default those that the folder was run with. ``rule`` and ``weights`` say which were taken, and
        ``scib_overall`` and ``scib_rank`` (or ``default_...``) are by the other rule of the task.
        ``dataset_version`` distinguishes data of one name, such as a subsample and the whole. Rows whose
        ``setting`` of the preprocessing is not ``"default"`` have no rank.
        ``leak_canary`` is ``"flagged"`` if the method knows labels that it was not shown, else ``"passed"``,
        ``"no power"`` (too few cells) or ``"no answer"``; missing if it was not tested.

        Raises
        ------
        UserError
            If there is no such board, or no such rule of weights.
        """
        return _as_frame(list(self._boards(task, dataset, weights)))

    @property
    def leak_canary(self) -> dict[str, str]:
        """What the leak canary of each board found, in words, by the name of the board."""
        boards = self._all_boards()
        return {board.board_id: words for board in boards if (words := canary_in_words(board))}

    def report(self, path: Path | str | None = None, *, figures: bool = False, weights: Any = None) -> Path:
        """Write the leaderboard and return where.

        Parameters
        ----------
        path
            A file that ends in .html, .csv, .md or .tex; a folder for the first three; by default the result
            folder.
        figures
            Draw UMAPs, curves, confusion matrices and training; into the page where it is one file.
        weights
            As in :meth:`leaderboard`.
        """
        target = self.folder if path is None else Path(path)
        request = ReportRequest(
            stores=(self._store,),
            out=target,
            figures=figures,
            n_jobs=usable_cores(),
            weights=None if weights is None else read_weights(weights),
        )
        progress = ConsoleProgress()
        if target.suffix not in SUFFIXES:
            return write_reports(request, progress=progress)[0]
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            formats = (SUFFIXES[target.suffix],)
            one = replace(request, out=Path(folder), formats=formats, inside=True)
            return write_reports(one, progress=progress)[0].replace(target)

    def _all_boards(self, weights: Any = None) -> tuple[Board, ...]:
        records = list(self._store.every_record())
        suite = self._store.suite
        chosen = (suite.weights if suite else None) if weights is None else for_tasks(weights, records)
        return build_boards(records, registry.metrics().values(), weights=chosen)

    def _boards(self, task: str | None, dataset: str | None, weights: Any = None) -> Iterator[Board]:
        boards = self._all_boards(weights)
        chosen = [
            board
            for board in boards
            if task in (None, board.task) and dataset in (None, board.dataset.dataset_id)
        ]
        if not chosen:
            there = ", ".join(f"{board.task} on {board.dataset.dataset_id}" for board in boards)
            raise UserError(f"{self.folder} has no such results. It has: {there or 'no record yet'}.")
        yield from chosen

    def __repr__(self) -> str:
        counts = Counter(run.status for run in self.records)
        text = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in counts.items())
        return f"Results({str(self.folder)!r}: {text or 'no runs'})"

    def _repr_html_(self) -> str:
        """Show the leaderboards in a notebook."""
        from html import escape

        parts = [f"<p>{escape(repr(self))}</p>"]
        if not self.records:
            return parts[0]
        hidden = ["task", "dataset_id", "split", "dataset_version", "method_id"]
        for board in self._boards(None, None):
            shown = _as_frame([board]).drop(columns=hidden)
            table = shown.to_html(index=False, na_rep="-", float_format="{:.3f}".format, border=0)
            data = versioned(board.dataset.dataset_id, board.version)
            parts.append(f"<h4>{escape(f'{board.task}: {data}, {scheme_of(board)}')}</h4>{table}")
        return "\n".join(parts)


def _as_frame(boards: Sequence[Board]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(leaderboard_rows(boards))
    ranks = {name: "Int64" for name in frame if name == "rank" or name.endswith("_rank")}
    return frame.astype(ranks).dropna(axis="columns", how="all")
