"""The page of a running benchmark, and the site of static pages."""

import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from cellular_bench.benchmark.results.progress import Overview, Running
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.reports import build_report, write
from cellular_bench.reports.page.live import live_page
from cellular_bench.reports.page.site import write_site_pages

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def _seen(**changes):
    fields = {
        "n_planned": 20,
        "statuses": Counter(ok=7, failed=2, timeout=1),
        "failures": {("failed", "ValueError: <b>bad</b>"): 2, ("timeout", "ran past 60 s"): 1},
        "running": {"run-a": Running(host="h", pid=1, started_at=NOW - timedelta(seconds=75))},
        "interrupted": (),
        "damaged": (),
        "n_other": 0,
        "seconds_left": 600.0,
        "is_active": True,
    }
    return Overview(**(fields | changes))


def test_the_page_of_a_running_benchmark_reloads():
    text = live_page(_seen(), title="Toy", interval=10, now=NOW)
    assert "<b>10 of 20 runs done</b>, running. About 10 min left. Written 2026-03-01 12:00:00 UTC." in text
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)]
    assert ["waiting", "9", "45", "%"] in rows
    assert ["failed", "ValueError:", "&lt;b&gt;bad&lt;/b&gt;", "2"] in rows
    assert "<code>run-a</code>, for 75 s" in text
    assert "location.reload" in text


@pytest.mark.parametrize(("n", "state"), [(20, "complete"), (12, "stopped")])
def test_the_page_of_an_ended_benchmark_does_not_reload(n, state):
    seen = _seen(statuses=Counter(ok=n), failures={}, running={}, is_active=False)
    text = live_page(seen, title="Toy", interval=10, now=NOW)
    assert f"{n} of 20 runs done</b>, {state}." in text
    assert "<script>" not in text


def test_the_scale_of_the_study_is_wherever_it_is_asked_for(records, specs, tmp_path):
    write_site_pages(build_report(records, specs, title="Toy", view="paper"), tmp_path)
    write(build_report(records, specs, title="Toy", view="paper"), tmp_path)
    for name in ("integration.html", "leaderboard.html"):
        assert "Min-max over methods (the study" in (tmp_path / name).read_text("utf-8")
    text = (tmp_path / "leaderboard.md").read_text("utf-8")
    warning = text.split("### Min-max over methods")[1].split("\n\n")[1]
    assert "A score depends on who else is in the table" in warning


def test_a_site_has_an_index_and_a_page_and_numbers_per_task(records, specs, tmp_path):
    paths = write_site_pages(build_report(records, specs, title="Toy"), tmp_path / "site")
    tasks = [task for task in TASKS if any(record.task == task for record in records)]
    assert [path.name for path in paths] == [
        "index.html",
        *(f"{task}{end}" for task in tasks for end in (".html", ".json", "-summary.json")),
    ]
    index = (tmp_path / "site" / "index.html").read_text("utf-8")
    targets = [href for href in re.findall(r'<a href="([^"]+)"', index) if href != "#main"]
    assert len(targets) == 12
    for target in targets:
        name, _, anchor = target.partition("#")
        text = (tmp_path / "site" / name).read_text("utf-8")
        assert not anchor or f'id="{anchor}"' in text
    (board,) = json.loads((tmp_path / "site" / "integration.json").read_text("utf-8"))
    rows = {row["method"]["name"]: row for row in board["rows"]}
    assert rows["Harmony"]["overall"]["mean"] == pytest.approx(0.62)
    assert rows["Harmony"]["rank"] == 2
    assert [name for name, row in rows.items() if row["transductive"]] == ["Harmony"]
    assert rows["Crasher"]["rank"] is None
    assert "failed" in rows["Crasher"]["not_ranked_because"]
    assert rows["Flat"]["metrics"]["clisi"] == {
        "mean": None,
        "std": None,
        "n": 0,
        "reasons": {"output all cells coincide": 2},
    }
    tables = {table["title"]: table for table in board["tables"]}
    assert list(tables) == ["Ranking", "Sensitivity of the ranking", "All metrics", "Runs without scores"]
    (harmony,) = [row for row in tables["Ranking"]["rows"] if row["name"] == "Harmony"]
    assert harmony["cells"][1] == {"text": "0.620", "detail": "[0.000, 1.000]", "value": pytest.approx(0.62)}
    summary = json.loads((tmp_path / "site" / "integration-summary.json").read_text("utf-8"))
    assert [table["title"] for table in summary["provenance"]] == [
        "Data sets",
        "Splits and seeds",
        "Environments",
    ]
