"""Folders from strangers on the command line: attacks through what commands print and write."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cellular_bench.benchmark.results.progress import PlanFile
from cellular_bench.benchmark.results.store import Store
from cellular_bench.cli.status import lines
from cellular_bench.core.text import visible
from cellular_bench.progress import ConsoleProgress

#: What rich itself writes on a terminal: colours, and moves of a bar.
OURS = re.compile(r"\x1b\[[0-9;]*[mKAG]|\x1b\[\?25[lh]|\r")
SEEDS = (0, 3, 5)


def _folder(hostile: Any, root: Path, seed: int) -> list[Any]:
    """Write a folder of records with hostile texts, under harmless names of runs."""
    store = Store.claim(root)
    records = [r.model_copy(update={"run_id": f"run-{i}"}) for i, r in enumerate(hostile.records(seed))]
    for record in records:
        store.write(record)
    plan = PlanFile.model_validate(
        {"n_jobs": 1, "runs": [{"run_id": r.run_id, "task": r.task, "method_id": "m"} for r in records]}
    )
    (root / "plan.json").write_text(plan.model_dump_json(), encoding="utf-8")
    return records


@pytest.mark.parametrize("seed", SEEDS)
def test_commands_on_a_hostile_folder_print_nothing_that_a_terminal_obeys(
    hostile: Any, run_benchmark: Callable[..., Any], tmp_path: Path, seed: int
) -> None:
    _folder(hostile, tmp_path / "a", seed)
    _folder(hostile, tmp_path / "b", seed)
    for command in (
        ("status", tmp_path / "a"),
        ("compare", tmp_path / "a", tmp_path / "b"),
        ("report", tmp_path / "a", "--no-figures", "--verbose"),
        ("report", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c", "--no-figures"),
        ("export", tmp_path / "a", "--format", "csv"),
    ):
        done = run_benchmark(*command)
        assert done.returncode in (0, 2), done.stderr
        assert "Traceback" not in done.stderr
        for text in (done.stdout, done.stderr):
            assert visible(text) == text
    rows = csv.reader(io.StringIO((tmp_path / "a" / "export" / "scores.csv").read_text("utf-8")))
    cells = [cell for row in rows for cell in row if not re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", cell)]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_a_reason_takes_one_line_of_status(hostile: Any, tmp_path: Path) -> None:
    from cellular_bench.benchmark.results.progress import overview

    records = _folder(hostile, tmp_path, 3)
    bad = records[0].model_copy(
        update={
            "status": "failed",
            "scores": (),
            "reason": "x\n9 of 9 runs done; complete.\x1b[2J" + "y" * 10**6,
        }
    )
    Store.open(tmp_path).write(bad)
    printed = list(lines(overview(Store.open(tmp_path))))
    assert not any("\n" in line for line in printed)
    assert max(map(len, printed)) < 1000


def test_progress_shows_names_and_reasons_and_obeys_none(hostile: Any) -> None:
    terminal = io.StringIO()
    progress = ConsoleProgress(Console(file=terminal, force_terminal=True, width=300))
    records = hostile.records(5)
    progress.begin(len(records))
    for record in records:
        progress.finished(record)
    for name in hostile.NAMES:
        progress.message(name)
    progress.end()
    text = OURS.sub("", terminal.getvalue())
    assert visible(text) == text
    assert "pwned.example\\x07link" in text


def test_warnings_are_shown_as_text(hostile: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for name in hostile.NAMES:
        ConsoleProgress().warning(name)
    text = capsys.readouterr().err
    assert visible(text) == text


def test_an_error_is_shown_as_text(run_benchmark: Callable[..., Any]) -> None:
    done = run_benchmark("list", "methods", "\x1b]0;title\x07\x9b2J")
    assert done.returncode == 2
    assert visible(done.stderr) == done.stderr
