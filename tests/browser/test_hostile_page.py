"""Pages of a folder from a stranger in a real browser: attacks through names, reasons, addresses and size."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cellular_bench.benchmark.results.progress import Overview, Running
from cellular_bench.reports import build_report, write
from cellular_bench.reports.page.live import live_page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(hostile: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of every hostile name: as method, data, split, reason, label."""
    out = tmp_path_factory.mktemp("hostile")
    records = []
    for seed in range(40):
        found = hostile.records(seed)
        if len({record.method.name for record in found}) > 2:
            prefix = f"{len(records)}-"
            data = found[0].dataset.model_copy(update={"digest": f"{seed:064d}"})
            records += [r.model_copy(update={"run_id": prefix + r.run_id, "dataset": data}) for r in found]
        if len(records) > 250:
            break
    write(build_report(records, hostile.specs(), title=hostile.NAMES[8]), out)
    return out


def _open(browser: Any, path: Path, hash_: str = "") -> None:
    browser.get("about:blank")
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(path.as_uri() + hash_)


def _check_nothing_ran(browser: Any, sentinel: str) -> None:
    from selenium.common.exceptions import NoAlertPresentException

    with pytest.raises(NoAlertPresentException):
        _ = browser.switch_to.alert
    assert browser.execute_script(f"return typeof window.{sentinel}") == "undefined"
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in urls[1:] if not url.startswith("data:")] == []
    # Chromium throttles the address of a page on which hundreds of buttons are pressed within a second.
    assert [entry for entry in browser.get_log("browser") if "Throttling" not in entry["message"]] == []


def test_nothing_in_a_hostile_folder_runs_or_is_asked_for_and_the_page_works(
    browser: Any, folder: Path, hostile: ModuleType
) -> None:
    _open(browser, folder / "leaderboard.html")
    # All that a reader can do: unfold, sort, filter, scale, weigh, point at things.
    n_done = browser.execute_script("""
      let n = 0;
      document.querySelectorAll('details').forEach(d => { d.open = true; n += 1; });
      document.querySelectorAll('table.methods thead button').forEach(b => { b.click(); n += 1; });
      document.querySelectorAll('#filters input').forEach(b => {
        if (b.type !== 'search') { b.click(); b.click(); n += 1; }
      });
      document.querySelectorAll('.weights input').forEach(r => {
        r.value = 0.1; r.dispatchEvent(new Event('input', {bubbles: true})); n += 1;
      });
      document.querySelectorAll('[data-tip]').forEach(t => {
        t.dispatchEvent(new Event('mouseenter')); t.dispatchEvent(new Event('focus')); n += 1;
      });
      return n;
    """)
    assert n_done > 50
    assert browser.execute_script("return document.querySelectorAll('[aria-sort]').length") > 0
    for name in hostile.NAMES[:30]:
        browser.execute_script(
            "const t = document.getElementById('filter-text'); t.value = arguments[0];"
            "t.dispatchEvent(new Event('input', {bubbles: true}))",
            name,
        )
    _check_nothing_ran(browser, hostile.SENTINEL)


def test_a_script_that_got_into_the_page_would_not_run(
    browser: Any, folder: Path, tmp_path: Path, hostile: ModuleType
) -> None:
    """The policy in the head of the page, not only the escaping, holds: here markup is put in by hand."""
    text = (folder / "leaderboard.html").read_text("utf-8")
    injected = (
        f"<script>window.{hostile.SENTINEL}=1</script><img src='x:' onerror='window.{hostile.SENTINEL}=2'>"
        f"<iframe src='data:text/html,x'></iframe><link rel=stylesheet href='https://{hostile.SENTINEL}.example'>"
    )
    path = tmp_path / "injected.html"
    path.write_text(text.replace('<main id="main"', injected + '<main id="main"', 1), encoding="utf-8")
    _open(browser, path)
    assert browser.execute_script(f"return typeof window.{hostile.SENTINEL}") == "undefined"
    assert browser.execute_script("return document.querySelectorAll('[aria-sort]').length") > 0
    refused = [entry["message"] for entry in browser.get_log("browser")]
    assert sum("Content Security Policy" in message for message in refused) >= 4


@pytest.mark.parametrize(
    "address", ["#%zz", "#%", "#%E0%A4%A?find=%zz", "#a?x=1&scale=%zz&hide=<b>", "#__proto__?constructor=1"]
)
def test_any_address_leaves_the_page_working(
    browser: Any, folder: Path, hostile: ModuleType, address: str
) -> None:
    _open(browser, folder / "leaderboard.html", address)
    assert browser.execute_script("return document.querySelectorAll('thead button').length") > 0
    # The last thing that the script does when the page is loaded is to listen to the address.
    browser.execute_script("location.hash = '#%zz'")
    browser.execute_script("document.querySelector('table.methods thead button').click()")
    _check_nothing_ran(browser, hostile.SENTINEL)


def test_the_live_page_of_a_hostile_folder_runs_its_own_script_only(
    browser: Any, tmp_path: Path, hostile: ModuleType
) -> None:
    now = datetime.now(UTC)
    seen = Overview(
        n_planned=500,
        statuses=Counter(failed=len(hostile.NAMES)),
        failures={("failed", name): 1 for name in hostile.NAMES},
        running={name: Running(host="h", pid=1, started_at=now) for name in hostile.NAMES},
        interrupted=tuple(hostile.NAMES),
        damaged=(),
        n_other=0,
        seconds_left=None,
        is_active=True,
    )
    path = tmp_path / "live.html"
    path.write_text(live_page(seen, title=hostile.NAMES[9], interval=3600, now=now), encoding="utf-8")
    _open(browser, path)
    assert browser.execute_script("return document.getElementById('again').hidden") is False
    _check_nothing_ran(browser, hostile.SENTINEL)


def test_the_page_of_5000_methods_opens_and_sorts(browser: Any, tmp_path: Path, hostile: ModuleType) -> None:
    records = hostile.many_methods(5000, n_splits=1)
    (path,) = write(build_report(records, hostile.specs(), title="Many"), tmp_path, formats=["html"])
    assert path.stat().st_size < 8_000_000
    _open(browser, path)
    rows = "return document.querySelectorAll('.ranking tr[data-method]').length"
    assert browser.execute_script(rows) == 250
    assert "4,750 more methods" in browser.find_element("id", "boards").text
    browser.execute_script("document.querySelector('.ranking thead button').click()")
    assert browser.execute_script("return document.querySelectorAll('.ranking [aria-sort]').length") == 1
    _check_nothing_ran(browser, hostile.SENTINEL)
