"""Pages under axe-core (https://github.com/dequelabs/axe-core): no violation of what it can tell.

axe-core is not part of the project: ``CELLULAR_BENCH_AXE`` names a file ``axe.min.js``, and without it these
tests skip. Nothing is fetched.
"""

import json
import os
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cellular_bench.benchmark.results.progress import Overview, Running
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.types import MetricSpec
from cellular_bench.reports import Figure, build_report, write
from cellular_bench.reports.figures.confusion_and_training import confusion_figure
from cellular_bench.reports.page.live import live_page
from cellular_bench.reports.page.site import write_site_pages

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def axe() -> str:
    """The text of axe-core."""
    name = os.environ.get("CELLULAR_BENCH_AXE")
    if not name:
        pytest.skip("set CELLULAR_BENCH_AXE to a file axe.min.js to check pages with axe-core")
    return Path(name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser(axe: str, open_browser: Callable[..., Any]) -> Any:
    """One browser for all tests of this file."""
    browser = open_browser()
    browser.set_script_timeout(300)
    return browser


@pytest.fixture(scope="module")
def pages(
    axe: str, records: list[RunRecord], specs: dict[str, MetricSpec], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The leaderboard with light and with heavy figures, the site, and the page of a running benchmark."""
    out = tmp_path_factory.mktemp("pages")
    confusion = confusion_figure({"a": {"a": 3, "b": 1}, "b": {"b": 2}}, title="scANVI, 10 runs")
    board = {"board_id": "annotation-baron_human-kfold", "method_id": "scanvi"}
    light, heavy = (
        Figure(kind="confusion", caption=confusion.caption, data=data, alt=confusion.alt, **board)  # type: ignore[arg-type]
        for data in (confusion.data, confusion.data + bytes(1_600_000))
    )
    report = build_report(records, specs, title="Toy")
    written = write(report, out, figures=[light], formats=["html"])
    beside = write(report, out / "heavy", figures=[heavy], formats=["html"])
    site = write_site_pages(report, out / "site")
    seen = Overview(
        n_planned=9,
        statuses=Counter(ok=5, failed=1),
        failures={("failed", "ValueError: no"): 1},
        running={"run-a": Running(host="h", pid=1, started_at=datetime.now(UTC))},
        interrupted=(),
        damaged=(),
        n_other=0,
        seconds_left=60.0,
        is_active=True,
    )
    (out / "live.html").write_text(live_page(seen, title="Toy", interval=3600), encoding="utf-8")
    return {"board": written[0], "figures": beside[1], "index": site[0], "live": out / "live.html"}


def _violations(browser: Any, axe: str, path: Path, *, width: int, scheme: str) -> list[str]:
    """Open a page with all that is folded unfolded, and return what axe-core says against it."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get_log("performance")
    browser.get(path.as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    browser.execute_script(axe)
    found = browser.execute_async_script(
        "axe.run({resultTypes: ['violations']}).then(arguments[arguments.length - 1])"
    )
    assert len(found["passes"]) > 10
    return [
        f"{one['id']}: {one['help']} ({len(one['nodes'])}, such as {one['nodes'][0]['html'][:120]})"
        for one in found["violations"]
    ]


def _asked(browser: Any) -> list[str]:
    """Return what the page asked for beyond itself."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in urls[1:] if not url.startswith("data:")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_the_leaderboard_has_no_violation(
    browser: Any, axe: str, pages: dict[str, Path], width: int, scheme: str
) -> None:
    assert _violations(browser, axe, pages["board"], width=width, scheme=scheme) == []
    assert browser.get_log("browser") == []
    assert _asked(browser) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["figures", "index", "live"])
def test_the_other_pages_have_no_violation(
    browser: Any, axe: str, pages: dict[str, Path], name: str, scheme: str
) -> None:
    for width in (390, 1280, 1920):
        assert _violations(browser, axe, pages[name], width=width, scheme=scheme) == []
    assert browser.get_log("browser") == []
    assert _asked(browser) == []
