"""The site builds without a warning, asks the network for nothing, and holds every page and card."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cellular_bench
from cellular_bench.benchmark import registry
from cellular_bench.benchmark.schema.suite import read_suite
from cellular_bench.metrics import METRICS

pytestmark = pytest.mark.site


@pytest.fixture(scope="module")
def site(docs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built anew."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-d", str(out / "doctrees")]
    done = subprocess.run(
        [*command, str(docs), str(out / "html")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out / "html"


def test_every_document_is_a_page(site: Path, docs: Path) -> None:
    sources = [path.relative_to(docs) for path in docs.rglob("*.md") if "_build" not in path.parts]
    assert len(sources) > 40
    missing = [str(path) for path in sources if not (site / path.with_suffix(".html")).is_file()]
    assert missing == []


def test_no_page_asks_the_network_for_anything(site: Path) -> None:
    """Links may lead elsewhere; scripts, styles, fonts and pictures lie beside the page."""
    asked = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\ssrc=\"(?:https?:)?//[^\"]*|<link[^>]*href=\"(?:https?:)?//[^\"]*"
    )
    for page in site.rglob("*.html"):
        assert asked.findall(page.read_text("utf-8")) == [], page
    for style in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)\s]*", style.read_text("utf-8")) == [], (
            style
        )


def test_a_card_tells_what_the_spec_says(site: Path) -> None:
    page = (site / "methods" / "harmony.html").read_text("utf-8")
    spec = registry.method("harmony").spec
    assert spec.doi is not None
    assert spec.license is not None
    facts = page[page.index("As the code declares it") :]
    for reported in (spec.description, spec.doi, spec.license, "needs two or more", "n_components=50"):
        assert reported in facts


def test_every_method_metric_and_data_set_is_in_its_catalogue(site: Path) -> None:
    methods = (site / "methods" / "README.html").read_text("utf-8")
    metrics = (site / "metrics.html").read_text("utf-8")
    built_in = [name for name, found in registry.methods().items() if found.origin == "built in"]
    assert [name for name in built_in if f">{name}</span>" not in methods] == []
    assert [name for name in METRICS if f">{name}</span>" not in metrics] == []
    datasets = (site / "datasets.html").read_text("utf-8")
    assert [name for name in registry.datasets() if f">{name}</span>" not in datasets] == []


def test_the_suites_are_told_as_their_files_have_them(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(docs / "_ext"))
    import suites

    def rows(name: str) -> list[list[str]]:
        return [suites.row(block) for block in read_suite(registry.suites()[name]).blocks]

    folds = "kfold, 5 folds; leave one batch out"
    assert rows("annotation") == [["annotation", "baron", folds, "0", "all"]]
    assert rows("integration") == [["integration", "baron", "all", "0, 1, 2", "all"]]
    (robustness,) = rows("robustness")
    assert robustness[2].startswith("kfold, 3 folds, label noise; kfold, 3 folds, fewer cells;")


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    page = (site / "api.html").read_text("utf-8")
    names = [name for name in cellular_bench.__all__ if name != "__version__"]
    assert [name for name in names if f'id="cellular_bench.{name}"' not in page] == []


def test_a_method_without_a_card_is_found(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(docs / "_ext"))
    import method_cards

    (tmp_path / "one.md").write_text("```{method-facts}\nharmony, pca\n```\n", encoding="utf-8")
    (tmp_path / "two.md").write_text("```{method-facts}\npca nonsense\n```\n", encoding="utf-8")
    cards = method_cards.card_of(tmp_path)
    assert cards["harmony"] == ["one"]
    assert cards["pca"] == ["one", "two"]
    assert cards["knn"] == []
    assert cards["nonsense"] == ["two"]
