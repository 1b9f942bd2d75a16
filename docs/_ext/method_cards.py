"""Sphinx directives for the method cards, filled from the code when the site is built.

``method-facts`` lists the declared properties of the named methods. ``method-table`` is an overview of all
methods, with links to their cards. A method without a card, or with two, causes a warning, which ends the
build. ``method-checks`` lists the checks of ``run-benchmark check``.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.fidelity import agreement_of
from cellular_bench.benchmark.conformance.checklist import CHECKS
from cellular_bench.benchmark.registry import Method

CARDS = "methods"
BLOCK = re.compile(r"^```\{method-facts\}\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
#: Written by ``benchmarks/method_costs.py``.
COSTS = Path(__file__).parents[1] / "methods" / "costs.csv"
LABELS = {"none": "none", "train": "of training cells", "all": "**of all cells, scored ones included**"}


@cache
def built_in() -> dict[str, Method]:
    """Return the methods of this package, without those of other installed packages."""
    return {name: found for name, found in registry.methods().items() if found.origin == "built in"}


def facts(method: Method) -> list[tuple[str, str]]:
    """Return the declared properties of a method as pairs of a name and Markdown text."""
    spec = method.spec
    agreement = agreement_of(spec.method_id)
    variables = "variable genes" if spec.features == "hvg" else "all genes"
    reads = "counts" if spec.reads == "counts" else "log-normalised values"
    declared = {
        "what": spec.description,
        "tasks": ", ".join(spec.tasks),
        "reads": f"{reads} of {variables}",
        "labels it sees": LABELS[spec.labels],
        "unseen cells": "yes: trains first, then embeds or annotates them"
        if spec.inductive
        else "no: must be given the cells it embeds",
        "names of cells": "gets the original ones, in their order" if spec.needs_names else "",
        "batches": "needs two or more" if spec.needs_batches else "",
        "source": _link(f"https://doi.org/{spec.doi}", spec.doi) if spec.doi else "",
        "original code" if spec.is_reimplementation else "code": _link(spec.url, spec.url)
        if spec.url
        else "",
        "licence": spec.license or "",
        "reimplemented": "yes" if spec.is_reimplementation else "",
        "agreement with the original": agreement.text if agreement else "",
        "variant of": f"`{spec.variant_of}`" if spec.variant_of else "",
        "canary embedding": spec.canary or "",
        "packages": ", ".join(f"`{name}`" for name in spec.requires),
        "pretrained weights": ", ".join(f"`{folder}`" for folder in spec.weights),
        "environment": f"its own, `{spec.environment}`" if spec.environment else "the common one",
        "gpu": "much faster with one" if spec.gpu else "",
        "parameters": ", ".join(f"`{name}={value!r}`" for name, value in method.defaults.items()),
        "must be given": ", ".join(f"`{name}`" for name in spec.needs_params),
        "version of the adapter": str(spec.version),
        **costs().get(spec.method_id, {}),
        **{f"may fail the check `{name}`": reason for name, reason in spec.expected_failed_checks.items()},
    }
    return [(name, text) for name, text in declared.items() if text]


@cache
def costs() -> dict[str, dict[str, str]]:
    """Return the measured time and memory of each method, as text by data and task."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    with COSTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[row["method_id"]][f"cost on {row['data']}, {row['task']}"] = _cost(row)
    return found


def _cost(row: dict[str, str]) -> str:
    seconds, n_runs = float(row["cpu_time_s"]), int(row["n_runs"])
    time = f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.2g}"
    cells = f"{int(row['n_train']):,} cells"
    if row["task"] != "integration":
        cells += f" for training, {int(row['n_test']):,} annotated"
    rests_on = {0: row["how"], 1: "one run"}.get(n_runs, f"mean of {n_runs} runs")
    memory, genes = f"{int(row['peak_rss_mib']):,} MiB", f"{int(row['n_vars']):,} genes"
    return f"{time} CPU s, {memory} ({cells}, {genes}; {rests_on})"


def _link(address: str, text: str) -> str:
    return f"[{text}](<{address}>)"


def card_of(folder: Path) -> dict[str, list[str]]:
    """Return the cards that list each method; a card is a file name without its ending."""
    cards: dict[str, list[str]] = {name: [] for name in built_in()}
    for path in sorted(folder.glob("*.md")):
        for name in _names(block for block in BLOCK.findall(path.read_text("utf-8"))):
            cards.setdefault(name, []).append(path.stem)
    return cards


def _names(blocks: Iterable[str]) -> list[str]:
    return [name for block in blocks for name in block.replace(",", " ").split()]


class MethodFacts(SphinxDirective):
    """Tables of the declared properties of the named methods."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return one table per method."""
        lines: list[str] = []
        for name in _names(self.content):
            if name not in built_in():
                raise self.error(f"No method is called '{name}'.")
            method = built_in()[name]
            lines += [f"**`{name}`**: {method.spec.name}", "", "| | |", "| --- | --- |"]
            lines += [f"| {key} | {_cell(text)} |" for key, text in facts(method)]
            lines.append("")
        return self.parse_text_to_nodes("\n".join(lines))


class MethodTable(SphinxDirective):
    """Table of every method of this package."""

    def run(self) -> list[nodes.Node]:
        """Return a table with one row per method and links to the cards."""
        cards = card_of(Path(self.env.srcdir) / CARDS)
        lines = [
            "| method | tasks | labels it sees | reads | unseen cells | licence |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for name, method in built_in().items():
            spec = method.spec
            where = f"[`{name}`]({cards[name][0]}.md)" if cards[name] else f"`{name}`"
            kind = "control" if spec.is_control else spec.license or "BSD-3-Clause"
            cells = [
                where,
                ", ".join(spec.tasks),
                LABELS[spec.labels],
                spec.reads,
                "yes" if spec.inductive else "no",
                kind,
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return self.parse_text_to_nodes("\n".join(lines))


class MethodChecks(SphinxDirective):
    """Table of the checks of a method."""

    def run(self) -> list[nodes.Node]:
        """Return a table with one row per check: its name, the requirement, and what to do if it fails."""
        lines = ["| check | requirement | if it fails |", "| --- | --- | --- |"]
        lines += [f"| `{check.check_id}` | {_cell(check.claim)} | {_cell(check.hint)} |" for check in CHECKS]
        return self.parse_text_to_nodes("\n".join(lines))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def check_cards(app: Sphinx, *_: Any) -> None:
    """Warn about methods that are listed in no card or in several."""
    logger = logging.getLogger(__name__)
    for name, cards in card_of(Path(app.srcdir) / CARDS).items():
        if name not in built_in():
            logger.warning("%s lists a method that does not exist: '%s'", cards, name)
        elif len(cards) != 1:
            logger.warning(
                "The method '%s' must be listed in one card of docs/methods, not in %s", name, cards
            )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("method-facts", MethodFacts)
    app.add_directive("method-table", MethodTable)
    app.add_directive("method-checks", MethodChecks)
    app.connect("builder-inited", check_cards)
    return {"parallel_read_safe": True}
