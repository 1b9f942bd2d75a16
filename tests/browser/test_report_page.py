"""The page in a real browser: it loads alone, sorts, filters, weighs and fits every screen."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cellular_bench.benchmark.analysis.leaderboard import build_boards, method_key
from cellular_bench.benchmark.analysis.rank_stability import between_controls
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.types import MetricSpec

pytestmark = pytest.mark.browser

RANKING = "#integration-baron_human-leave_one_batch_out-ranking"
FIRST = f"{RANKING} tbody.group-unsupervised"


@pytest.fixture
def page(browser: Any, page_path: Path) -> Any:
    """The page, freshly loaded at 1280 x 900."""
    _resize(browser, 1280)
    _scheme(browser, "light")
    browser.get_log("performance")
    browser.get(page_path.as_uri())
    return browser


def _resize(browser: Any, width: int, height: int = 900) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def _scheme(browser: Any, scheme: str) -> None:
    """Choose light or dark; without motion, since a page that still scrolls is clicked beside the mark."""
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def _names(page: Any, body: str = FIRST) -> list[str]:
    script = """return [...document.querySelectorAll(arguments[0] + ' tr:not(.group):not([hidden]) .name')]
                .map(cell => cell.querySelector('a').textContent.trim())"""
    names: list[str] = page.execute_script(script, body)
    return names


def _head(page: Any, title: str, table: str = RANKING) -> Any:
    heads = page.find_elements("css selector", f"{table} thead th[scope=col]")
    return next(head for head in heads if title in head.text)


def _click(page: Any, element: Any) -> None:
    # Scrolled into the middle first: the filter bar sticks to the top and would catch the click.
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()


def test_loads_from_a_file_without_errors_and_without_the_network(page: Any, page_path: Path) -> None:
    assert page.title == "Core suite: integration, annotation and novelty"
    assert page.get_log("browser") == []
    asked = [
        message["params"]["request"]["url"]
        for entry in page.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    ]
    assert asked[0] == page_path.as_uri()
    assert [url for url in asked[1:] if not url.startswith("data:")] == []
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_a_click_sorts_within_the_track_and_a_second_click_turns_it_round(page: Any) -> None:
    assert _names(page) == ["Harmony", "scVI", "Scanorama", "PCA"]
    others = _names(page, f"{RANKING} tbody.group-supervised")
    head = _head(page, "Method")
    _click(page, head.find_element("css selector", "button"))
    assert head.get_attribute("aria-sort") == "ascending"
    assert _names(page) == ["Harmony", "PCA", "Scanorama", "scVI"]
    assert _names(page, f"{RANKING} tbody.group-supervised") == sorted(others, key=str.lower)
    _click(page, head.find_element("css selector", "button"))
    assert head.get_attribute("aria-sort") == "descending"
    assert _names(page) == ["scVI", "Scanorama", "PCA", "Harmony"]
    assert len(page.find_elements("css selector", f"{RANKING} [aria-sort]")) == 1


@pytest.mark.parametrize("key", ["\ue007", " "], ids=["enter", "space"])
def test_the_keyboard_sorts_too_and_the_result_is_announced(page: Any, key: str) -> None:
    head = _head(page, "Overall")
    button = head.find_element("css selector", "button")
    button.send_keys(key)
    assert head.get_attribute("aria-sort") == "descending"
    assert (
        page.find_element("id", "sort-status").get_attribute("textContent")
        == "Sorted by Overall, descending."
    )
    button.send_keys(key)
    assert head.get_attribute("aria-sort") == "ascending"
    assert _names(page) == ["PCA", "Scanorama", "scVI", "Harmony"]


def test_every_column_sorts_by_its_own_numbers_and_missing_values_stay_last(page: Any) -> None:
    script = """
      const bad = [];
      document.querySelectorAll('table.methods').forEach(table => {
        table.querySelectorAll('thead button').forEach(button => {
          for (const turn of [1, 2]) {
            button.click();
            const head = button.closest('th');
            const sign = head.getAttribute('aria-sort') === 'ascending' ? 1 : -1;
            const title = button.textContent;
            const heads = [...table.querySelectorAll('thead th[scope=col]')];
            const column = heads.indexOf(head);
            for (const body of table.tBodies) {
              const cells = [...body.rows].slice(1).map(row => row.cells[column]);
              const present = cells.map(cell => cell.dataset.v !== undefined);
              const gap = present.indexOf(false);
              if (gap >= 0 && present.lastIndexOf(true) > gap) bad.push(title + ' gaps');
              const numbers = cells.filter(c => c.dataset.v !== undefined && !c.matches('.name'))
                .map(cell => sign * Number(cell.dataset.v));
              if (numbers.some((n, i) => i && n < numbers[i - 1])) bad.push(title + ' order');
            }
          }
        });
      });
      return bad;"""
    assert page.execute_script(script) == []


def test_text_and_tracks_filter_rows_of_every_table(page: Any) -> None:
    box = page.find_element("id", "filter-text")
    _click(page, box)
    box.send_keys("SCVI")
    assert _names(page) == ["scVI"]
    assert _names(page, f"{RANKING} tbody.group-supervised") == []
    assert _names(page, f"{RANKING.replace('ranking', 'metrics')} tbody") == ["scVI"]
    assert page.find_element("id", "filter-status").text == "4 of 48 rows"
    box.clear()
    box.send_keys(" ")
    _click(page, page.find_element("css selector", "input[value=control]"))
    assert not page.find_element("css selector", f"{RANKING} tbody.group-control").is_displayed()
    assert page.find_element("id", "filter-status").text == "40 of 48 rows"


def test_tasks_and_data_sets_filter_boards_and_cards_and_a_link_keeps_them(page: Any) -> None:
    shown = """return [...document.querySelectorAll('#boards .board:not([hidden]), .card:not([hidden])')]
               .map(place => place.dataset.task + ' ' + place.dataset.dataset)"""
    _click(page, page.find_element("css selector", "input[name=task][value=integration]"))
    assert page.execute_script(shown) == ["annotation baron_human", "novelty baron_human"] * 2
    _click(page, page.find_element("css selector", "input[name=task][value=integration]"))
    page.find_element("css selector", ".menu summary").send_keys("\ue007")
    page.find_element("css selector", "input[value=baron_human]").send_keys(" ")
    assert page.execute_script(shown) == ["integration one_donor"] * 2
    assert page.find_element("id", "filter-status").text == "12 of 48 rows"
    chosen = page.execute_script("return location.hash")
    assert chosen.endswith("hide-data=baron_human")
    start = page.current_url.partition("#")[0]
    page.get("about:blank")
    page.get(start + chosen)
    assert page.execute_script(shown) == ["integration one_donor"] * 2


def test_several_methods_are_found_by_comma(page: Any) -> None:
    box = page.find_element("id", "filter-text")
    box.send_keys("scvi, HARMONY,")
    assert _names(page) == ["Harmony", "scVI"]
    assert _names(page, f"{RANKING} tbody.group-supervised") == []


def test_another_scale_ranks_again_by_the_numbers_of_python(
    page: Any, records: list[RunRecord], specs: dict[str, MetricSpec]
) -> None:
    boards = {board.board_id: board for board in build_boards(records, specs.values())}
    board = boards[RANKING.removeprefix("#").removesuffix("-ranking")]
    expected = {
        row.method.name: between_controls(board)[method_key(row.method)]
        for row in board.rows
        if row.track == "unsupervised" and row.rank
    }
    read = """return [...document.querySelectorAll(arguments[0] + ' tr:not(.group)')].map(row => [
      row.querySelector('.name a').textContent, Number(row.querySelector('[data-key=overall]').dataset.v),
      row.querySelector('[data-key=rank]').textContent.trim()])"""
    before = page.execute_script(read, FIRST)
    page.find_element("css selector", "input[value=controls]").send_keys(" ")
    found = page.execute_script(read, FIRST)
    assert {name: value for name, value, _ in found} == pytest.approx(expected, abs=1e-6)
    assert [name for name, _, _ in found] == sorted(expected, key=lambda name: -expected[name])
    assert [rank for *_, rank in found] == ["1", "2", "3", "4"]
    assert page.find_element("id", "sort-status").get_attribute("textContent") == "Scale: between controls."
    assert "between the controls" in page.find_element("css selector", ".chosen").text
    chosen, start = page.execute_script("return location.hash"), page.current_url.partition("#")[0]
    assert chosen == "#?scale=controls"
    page.get("about:blank")
    page.get(start + chosen)
    assert page.execute_script(read, FIRST) == found
    page.find_element("css selector", "input[value=own]").send_keys(" ")
    assert page.execute_script(read, FIRST) == before


ROWS = f"{RANKING} tbody.group-unsupervised tr:not(.group)"
READ = """const text = (row, cell) => row.querySelector(cell).textContent.trim();
  return [...document.querySelectorAll(arguments[0])].map(row => [
    row.dataset.method, text(row, '[data-key=overall] .val'), text(row, '[data-key=rank]'),
    text(row, '[data-key=overall] .sd'), text(row, 'td[data-key=aspect-2] .val')])"""
WEIGHTS = "#integration-baron_human-leave_one_batch_out-weights"


def _slide(page: Any, *places: float, box: str = WEIGHTS) -> None:
    script = """document.querySelectorAll(arguments[0] + ' input').forEach((range, i) => {
      range.value = arguments[1][i]; range.dispatchEvent(new Event('input', {bubbles: true})); })"""
    page.execute_script(script, box, places)


def _outputs(page: Any, box: str = WEIGHTS) -> list[str]:
    return [output.text for output in page.find_elements("css selector", f"{box} output")]


def test_other_weights_change_overall_and_ranks_and_can_be_reset(page: Any) -> None:
    before = page.execute_script(READ, ROWS)
    assert _outputs(page) == ["0.30", "0.40", "0.30"]
    _slide(page, 0, 0, 1)
    only_structure = page.execute_script(READ, ROWS)
    assert [row[1] for row in only_structure] == [row[4] for row in only_structure]
    assert [row[1] for row in only_structure] == sorted((row[1] for row in only_structure), reverse=True)
    assert [row[2] for row in only_structure] == ["1", "2", "3", "4"]
    chosen = page.find_element("css selector", ".board .chosen").text
    assert "batch correction weighs 0.00, bio conservation weighs 0.00, structure weighs 1.00" in chosen
    assert "“scIB overall”, “Versus best”, “Between controls”, the overview" in chosen
    _slide(page, 0.3, 0.4, 0.3)
    assert page.execute_script(READ, ROWS) == before
    _slide(page, 0.9, 0.1, 0.2)
    _click(page, page.find_element("css selector", f"{WEIGHTS} button"))
    assert page.execute_script(READ, ROWS) == before
    assert _outputs(page) == ["0.30", "0.40", "0.30"]


@pytest.mark.parametrize(
    "weights", [None, {"batch_correction": 0.5, "bio_conservation": 0.2, "structure": 0.3}]
)
def test_scores_by_chosen_weights_are_those_of_python(
    page: Any, records: list[RunRecord], specs: dict[str, MetricSpec], weights: dict[str, float] | None
) -> None:
    """By a named rule, with its button, and by others, with sliders that need not add up to 1."""
    boards = build_boards(records, specs.values(), weights=weights or "scib")
    board = next(board for board in boards if f"#{board.board_id}-ranking" == RANKING)
    expected = {
        row.method.method_id: [f"{row.overall.mean:.3f}", str(row.rank)]
        for row in board.rows
        if row.track == "unsupervised" and row.rank
    }
    if weights is None:
        (button,) = [
            button
            for button in page.find_elements("css selector", f"{WEIGHTS} button")
            if button.text == "scIB weights"
        ]
        button.send_keys(" ")
        assert _outputs(page) == ["0.40", "0.60", "0.00"]
    else:
        _slide(page, 1.0, 0.4, 0.6)
        assert _outputs(page) == ["0.50", "0.20", "0.30"]
    found = page.execute_script(READ, ROWS)
    assert {row[0]: row[1:3] for row in found} == expected
    if weights is None:
        beside = """return [...document.querySelectorAll(arguments[0])].map(
          row => row.cells[3].querySelector('.val').textContent)"""
        assert page.execute_script(beside, ROWS) == [row[1] for row in found], "as the column scIB overall"
    chosen, start = page.execute_script("return location.hash"), page.current_url.partition("#")[0]
    page.get("about:blank")
    page.get(start + chosen)
    assert page.execute_script(READ, ROWS) == found


def test_arrow_keys_move_a_weight_and_the_others_make_room(page: Any) -> None:
    slider = page.find_element("css selector", f"{WEIGHTS} input")
    label = page.find_element("css selector", f"{WEIGHTS} label")
    assert (label.text, label.get_attribute("for")) == ("Batch correction", slider.get_attribute("id"))
    slider.send_keys("\ue014" * 20)  # right
    assert slider.get_attribute("value") == "0.5"
    assert _outputs(page) == ["0.42", "0.33", "0.25"]
    assert slider.get_attribute("aria-valuetext") == "0.42"


def test_a_board_without_an_aspect_has_no_weight_for_it(page: Any) -> None:
    box = "#integration-one_donor-kfold-weights"
    assert _outputs(page, box) == ["0.40", "0.60"]
    _slide(page, 0, 0, box=box)
    assert _outputs(page, box) == ["0.50", "0.50"]
    caption = page.find_element("css selector", f"{box.replace('weights', 'ranking')} caption").text
    assert "No run has been scored for structure, so the overall score has the scIB weights." in caption
    assert not page.find_elements("css selector", "#annotation-baron_human-kfold-weights")


@pytest.mark.parametrize("text", ["2~0~0", "a~b~c", "0.1~0.2", "", "~~", "NaN~0~1"])
def test_weights_of_a_link_that_make_no_sense_change_nothing(page: Any, page_path: Path, text: str) -> None:
    before = page.execute_script(READ, ROWS)
    page.get_log("browser")  # of other tests
    page.get("about:blank")
    page.get(f"{page_path.as_uri()}#?{WEIGHTS[1:]}={text}")
    assert page.execute_script(READ, ROWS) == before
    assert page.get_log("browser") == []


def test_the_name_of_a_method_leads_to_its_runs(page: Any) -> None:
    link = page.find_element("css selector", f"{FIRST} tr[data-method=scvi] .name a")
    _click(page, link)
    entry = page.find_element("css selector", "#methods > details[open]")
    assert entry.find_element("css selector", "summary").text == "scVI"
    boards = [link.text for link in entry.find_elements("css selector", "tbody th a")]
    assert boards == [
        "Integration · Baron human pancreas",
        "Integration · One donor only",
        "Annotation · Baron human pancreas",
        "Novelty detection · Baron human pancreas",
    ]
    runs = entry.find_elements("css selector", "tbody tr")[2]
    _click(page, runs.find_element("css selector", "summary"))
    lines = runs.find_element("css selector", "pre").text.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("kfold-0, seed 0: not applicable; –")


def test_an_overall_score_leads_to_the_runs_behind_it(page: Any) -> None:
    score = page.find_element("css selector", f"{FIRST} tr[data-method=scvi] [data-key=overall] a.val")
    shown = score.text
    score.send_keys("\ue007")
    place = page.find_element("css selector", "#methods details[open] tr:target")
    assert place.find_element("css selector", "th").text == "Integration · Baron human pancreas"
    assert place.find_elements("css selector", "td.num")[0].text.startswith(shown)
    runs = place.find_element("css selector", "details[open] pre")
    assert runs.is_displayed()
    assert len(runs.text.splitlines()) == 8


def test_a_link_shows_what_was_chosen(page: Any) -> None:
    read = """return [location.hash, document.getElementById('filter-status').textContent,
      [...document.querySelectorAll(arguments[0])].map(row => row.dataset.method),
      document.querySelector('.weights output').textContent, window.scrollY > 300]"""
    rows = f"{RANKING} tbody.group-unsupervised tr:not(.group):not([hidden])"
    start = page.current_url.partition("#")[0]
    page.get(f"{start}#boards")
    page.refresh()
    box = page.find_element("id", "filter-text")
    box.send_keys("sc")
    _click(page, page.find_element("css selector", "input[value=control]"))
    _slide(page, 0.9, 0.4, 0.3)
    heads = page.find_elements("css selector", f"{RANKING} thead button")
    _click(page, heads[1])  # by name
    chosen = page.execute_script(read, rows)
    assert chosen[0].startswith("#boards?find=sc&hide=control&")
    assert chosen[2] == ["scanorama", "scvi"]
    page.get("about:blank")
    page.get(start + chosen[0])
    assert page.execute_script(read, rows) == chosen
    page.get("about:blank")
    page.get(start)
    assert page.execute_script(read, rows)[1:4] == [
        "48 rows",
        ["harmony", "scvi", "scanorama", "pca"],
        "0.30",
    ]


@pytest.mark.parametrize("width", [390, 768, 1280, 1920])
def test_the_page_never_scrolls_sideways(page: Any, width: int) -> None:
    _resize(page, width)
    overflow = page.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
    assert page.execute_script("return window.innerWidth") == width
    assert overflow <= 0


def test_on_a_phone_the_names_stay_while_the_table_scrolls(page: Any) -> None:
    _resize(page, 390)
    script = """const box = document.querySelector(arguments[0]).parentElement;
      const name = box.querySelector('tbody .name');
      const before = name.getBoundingClientRect().left;
      box.scrollLeft = 300;
      const after = name.getBoundingClientRect();
      return [box.scrollLeft, before, after.left, after.width]"""
    scrolled, before, after, width = page.execute_script(script, RANKING)
    assert scrolled == 300
    assert after == pytest.approx(before, abs=1)
    assert width < 195


def test_a_reason_appears_on_focus_and_goes_with_escape(page: Any) -> None:
    gap = page.find_element("css selector", "table.dense .missing")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", gap)
    page.execute_script("return new Promise(done => setTimeout(done, 100))")
    page.execute_script("arguments[0].focus()", gap)
    tip = page.find_element("id", "tip")
    assert tip.is_displayed()
    assert tip.text == gap.get_attribute("data-tip") != ""
    gap.send_keys("\ue00c")
    assert not tip.is_displayed()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(page: Any, scheme: str) -> None:
    """Every text against what lies behind it, mixed colours and all: 4.5 to 1 (WCAG 2 AA)."""
    _scheme(page, scheme)
    page.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    script = """
      const parse = text => {
        const [r, g, b, alpha = 1] = text.match(/[\\d.]+/g).map(Number);
        return [r, g, b, alpha];
      };
      const over = (top, base) => top.slice(0, 3).map((c, i) => c * top[3] + base[i] * (1 - top[3]));
      const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
      const lum = ([r, g, b]) =>
        0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
      const behind = el => {
        const layers = [];
        for (let node = el; node; node = node.parentElement) {
          layers.unshift(parse(getComputedStyle(node).backgroundColor));
        }
        return layers.reduce((base, layer) => over(layer, base), [255, 255, 255]);
      };
      const worst = {};
      const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      while (walker.nextNode()) {
        const el = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || el.closest('script, [hidden], .vh')) continue;
        const style = getComputedStyle(el);
        const base = behind(el);
        const ink = parse(style.color);
        ink[3] *= Number(style.opacity);
        const [a, b] = [lum(over(ink, base)), lum(base)];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) worst[el.tagName + '.' + el.className] = [ratio, el.textContent.trim().slice(0, 30)];
      }
      return worst;"""
    assert page.execute_script(script) == {}


def test_without_script_everything_is_there_and_nothing_pretends_to_work(
    open_browser: Callable[..., Any], page_path: Path
) -> None:
    browser = open_browser()
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(page_path.as_uri())
    assert not browser.find_element("id", "filters").is_displayed()
    assert browser.find_elements("css selector", "thead button") == []
    rows = browser.find_elements("css selector", f"{RANKING} tbody tr")
    assert sum("Harmony" in row.text and "0.743" in row.text for row in rows) == 1
    gap = browser.find_element("css selector", "table.dense .missing")
    assert "all cells are of one batch" in gap.get_attribute("title")


def test_printing_opens_what_is_folded(page: Any) -> None:
    page.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert page.execute_script("return document.querySelectorAll('details:not([open])').length") == 0
    page.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert page.execute_script("return document.querySelectorAll('details[open]').length") == 0


def test_the_fold_of_preprocessing_opens_and_its_tables_can_be_sorted(page: Any) -> None:
    summary = page.find_element("css selector", "details.fold > summary")
    table = f"{RANKING.removesuffix('ranking')}settings"
    shown = page.find_element("css selector", table)
    assert not shown.is_displayed()
    _click(page, summary)
    assert shown.is_displayed()
    assert page.find_element("css selector", "details.fold figure.settings img").rect["width"] > 200
    details = "[...document.querySelectorAll(arguments[0] + ' tbody tr .detail')].map(d => d.textContent)"
    before = page.execute_script(f"return {details}", table)
    assert sorted(before) == [
        "500 genes",
        "500 genes scaled",
        "default setting",
        "default setting",
        "scaled",
    ]
    head = _head(page, "Overall", table)
    _click(page, head.find_element("css selector", "button"))
    assert head.get_attribute("aria-sort") == "descending"
    text = page.find_element("css selector", f"{table.removesuffix('settings')}equal-settings").text
    assert "Scanorama" in text
    assert "Harmony" in text
    assert page.get_log("browser") == []
