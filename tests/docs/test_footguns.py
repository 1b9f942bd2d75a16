"""The experiments show what their page says, with the figures that the page has."""

import importlib.util
import re
import runpy
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = (
    "islands",
    "kmeans_on_unequal_types",
    "label_leakage",
    "minmax_over_methods",
    "silhouette_of_batches",
    "tuning_on_test_cells",
)
NUMBER = re.compile(r"\d\.\d+")


@pytest.fixture(params=SCRIPTS)
def script(request: pytest.FixtureRequest, docs: Path) -> Path:
    return docs / "footguns" / f"{request.param}.py"


def loaded(docs: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, docs / "footguns" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_what_the_script_prints(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same lines; a figure may differ by rounding on another machine."""
    runpy.run_path(str(script), run_name="__main__")
    printed = [line for line in capsys.readouterr().out.splitlines() if line]
    assert sum(len(NUMBER.findall(line)) for line in printed) >= 4
    page = {
        NUMBER.sub("#", line): line for line in (script.parent / "index.md").read_text("utf-8").splitlines()
    }
    for line in printed:
        shape = NUMBER.sub("#", line)
        assert shape in page, line
        figures = [float(value) for value in NUMBER.findall(page[shape])]
        assert [float(value) for value in NUMBER.findall(line)] == pytest.approx(figures, abs=0.011)


def test_islands_win_without_structure_and_lose_with_it(docs: Path) -> None:
    """On the page, whose figures the script prints."""
    rows = re.findall(
        r"^\| `(\w+)` \|(.*)\|$", (docs / "footguns" / "index.md").read_text("utf-8"), re.MULTILINE
    )
    found = {name: [float(value) for value in NUMBER.findall(cells)] for name, cells in rows}
    aspects = {name: figures for name, figures in found.items() if len(figures) == 5}
    module = loaded(docs, "islands")
    assert set(aspects) == {module.ISLANDS, *module.HONEST}
    for name, (batch, bio, structure, without, with_structure) in aspects.items():
        scores = dict(zip(module.ASPECTS, (batch, bio, structure), strict=True))
        assert module.overall(scores, module.WITHOUT) == pytest.approx(without, abs=0.002)
        assert module.overall(scores, module.WITH) == pytest.approx(with_structure, abs=0.002)
        if name != module.ISLANDS:
            assert without < aspects[module.ISLANDS][3] - 0.1
            assert with_structure > aspects[module.ISLANDS][4] + 0.05


def test_a_silhouette_does_not_see_pairs(docs: Path) -> None:
    found = loaded(docs, "silhouette_of_batches").measure()
    mixed, pairs = found["all four mixed"], found["two pairs, far apart"]
    assert pairs["silhouette_batch"] >= mixed["silhouette_batch"]
    for name in ("bras", "ilisi", "kbet"):
        assert pairs[name] < 0.6 * mixed[name]


def test_kmeans_fails_where_neighbours_do_not(docs: Path) -> None:
    equal, unequal = loaded(docs, "kmeans_on_unequal_types").measure().values()
    assert equal["kmeans_nmi"] == pytest.approx(1.0)
    assert unequal["nearest"] == 1.0
    assert unequal["clisi"] > 0.99
    assert unequal["kmeans_nmi"] < 0.2


def test_a_third_method_turns_the_order_of_two(docs: Path) -> None:
    """By hand, on the page's four metrics: 0.6 x bio + 0.4 x batch on values between worst and best."""
    module = loaded(docs, "minmax_over_methods")
    rows = {
        "pca": (0.052, 0.707, 0.921, 0.606),
        "unintegrated": (0.325, 0.945, 0.656, 0.507),
        "shuffled_within_batch": (0.052, 0.823, 0.063, 0.426),
    }
    table = {name: dict(zip(module.METRIC_IDS, values, strict=True)) for name, values in rows.items()}
    found = module.measure(table)
    assert found["by_methods", 2] == pytest.approx({"pca": 0.6, "unintegrated": 0.4})
    leiden, silhouette = (0.656 - 0.063) / (0.921 - 0.063), (0.507 - 0.426) / (0.606 - 0.426)
    assert found["by_methods", 3]["pca"] == pytest.approx(0.6)
    assert found["by_methods", 3]["unintegrated"] == pytest.approx(0.4 + 0.3 * (leiden + silhouette))
    for name in ("pca", "unintegrated"):
        assert found["by_own_range", 3][name] == found["by_own_range", 2][name]
