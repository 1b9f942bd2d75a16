"""Folders from strangers on the command line: attacks through what commands print and write."""

import csv
import io
import json
import re
from collections.abc import Callable
from importlib.util import find_spec
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


ODD = {
    "not a number": (("method", "params", "x"), float("nan")),
    "infinite": (("scores", 0, "value"), float("inf")),
    "half a character": (("method", "params", "x"), "\ud800"),
    "half a character in a name": (("method", "name"), "\ud800"),
    "large seed": (("seed",), 10**400),
    "large count": (("split", "n_test"), 10**400),
    "large score": (("scores", 0, "value"), 1.7e308),
    "large cost": (("cost",), {"wall_time_s": 1.7e308}),
    "negative count": (("split", "n_train"), -100),
    "negative size": (("dataset", "n_obs"), -5),
    "negative cost": (("cost",), {"wall_time_s": -1.0, "cpu_time_s": -1.0}),
    "nested": (("method", "params", "x"), None),
    "early end": (("finished_at",), "1970-01-01T00:00:00Z"),
    "date without zone": (("started_at",), "2026-01-01T00:00:00"),
    "twice": (("scores", 1), {"metric_id": "ilisi", "aspect": "batch_correction", "value": 0.5}),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_values_in_records_end_no_command(
    make: Callable[..., Any], run_benchmark: Callable[..., Any], tmp_path: Path, odd: str
) -> None:
    (tmp_path / "runs").mkdir()
    where, value = ODD[odd]
    for method in ("A", "B", "C"):
        for split in range(4):
            run = json.loads(make(method, split, {"ilisi": 0.1 * split, "kbet": 0.5}).model_dump_json())
            part = run
            for key in where[:-1] if method != "C" else ():
                part = part[key]
            if method != "C":
                part[where[-1]] = value
            text = json.dumps(run)
            if odd == "nested":
                text = text.replace('"x": null', f'"x": {"[" * 5000}{"]" * 5000}')
            folder = tmp_path / "runs" / run["run_id"]
            folder.mkdir()
            (folder / "record.json").write_text(text)
    for command in (
        ("report", tmp_path, "--no-figures"),
        ("report", tmp_path, "--no-figures", "--site", tmp_path / "site"),
        ("compare", tmp_path, tmp_path),
        ("export", tmp_path, "--format", "csv"),
        *([("export", tmp_path, "--format", "parquet")] if find_spec("pyarrow") else []),
    ):
        done = run_benchmark(*command)
        assert done.returncode == 0, done.stderr
        assert visible(done.stderr) == done.stderr
