"""Method cards: what their tables say by hand is what the code declares."""

import csv
import re
from pathlib import Path

import pytest

from cellular_bench.benchmark import registry
from cellular_bench.core.types import MethodSpec

CARDS = Path(__file__).parents[2] / "docs" / "methods"
FACTS = re.compile(r"```\{method-facts\}\n(.*?)\n```", re.DOTALL)
TASKS = ("integration", "annotation", "novelty")
#: Methods whose time and memory have not been measured yet; their cards say so.
NOT_MEASURED = {"scpoli", "popv", "scalex", "cellhint", "onclass", "scbalance"}
#: How a row says which labels a method sees.
LABEL_WORDS = {"none": r"\bnone\b", "train": r"\btraining cells\b", "all": r"\ball, "}


def cards() -> dict[str, tuple[str, list[MethodSpec]]]:
    """Return each card's text and the methods that it is about."""
    found = {}
    for path in sorted(CARDS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if names := FACTS.search(text):
            specs = [registry.method(name.strip()).spec for name in names[1].split(",")]
            found[path.stem] = (text, specs)
    return found


def row(text: str, topic: str) -> str:
    """Return the cells of a table's row, empty where the card has no such row."""
    found = re.search(rf"^\| {topic} \|(.*)$", text, re.MULTILINE)
    return found[1] if found else ""


@pytest.mark.parametrize("card", sorted(cards()))
def test_a_card_says_what_its_methods_declare(card: str) -> None:
    text, specs = cards()[card]
    for spec in specs:
        assert spec.doi is None or spec.doi in text, f"{spec.method_id}: its source {spec.doi} is not named"
    if reported := row(text, "tasks"):
        assert [task for task in TASKS if task in reported] == [
            task for task in TASKS if any(task in spec.tasks for spec in specs)
        ]
    if reported := row(text, "labels"):
        assert {labels for labels, words in LABEL_WORDS.items() if re.search(words, reported)} == {
            spec.labels for spec in specs
        }
    if reported := row(text, "kind"):
        assert ("transductive" in reported) == any(not spec.inductive for spec in specs)
        assert bool(re.search(r"\binductive", reported)) == any(spec.inductive for spec in specs)


def test_every_method_has_a_card() -> None:
    described = {spec.method_id for _, specs in cards().values() for spec in specs}
    assert described == set(registry.methods())


def test_every_method_has_its_time_and_memory_on_both_data_sets() -> None:
    """Controls, results made elsewhere and variants of a method aside."""
    with (CARDS / "costs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["method_id"] for row in rows} <= set(registry.methods())
    assert all(float(row["cpu_time_s"]) >= 0 and float(row["peak_rss_mib"]) > 100 for row in rows)
    wanted = {
        (name, data)
        for name, method in registry.methods().items()
        if not (method.spec.is_control or method.spec.variant_of or name.startswith("precomputed"))
        and name not in NOT_MEASURED
        for data in ("Baron", "PBMC")
    }
    measured = {(row["method_id"], row["data"]) for row in rows}
    assert wanted - measured == set()
    assert NOT_MEASURED.isdisjoint(
        {name for name, data in measured if (name, "Baron") in measured and data == "PBMC"}
    )
