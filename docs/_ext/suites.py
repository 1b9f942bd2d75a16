"""Sphinx directive ``suite-table``: what every suite runs, read when the site is built."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.schema.suite import Block, SplitChoice, read_suite

HEAD = "| suite | task | data | splits | seeds | methods |"


def row(block: Block) -> list[str]:
    """Return the table cells for one block of a suite."""
    methods = dict.fromkeys(choice.method_id for choice in block.methods)
    splits = dict.fromkeys(split(choice) for choice in block.splits)
    seeds = ", ".join(map(str, block.seeds))
    return [block.task, ", ".join(block.datasets), "; ".join(splits), seeds, ", ".join(methods)]


def split(choice: SplitChoice) -> str:
    """Describe a split: its kind, the number of folds, and the stress."""
    text = choice.kind.replace("_", " ")
    if "n_splits" in choice.options:
        text += f", {choice.options['n_splits']} folds"
    if "stress" in choice.options:
        text += f", {choice.options['stress']['kind'].replace('_', ' ')}"
    return text


class SuiteTable(SphinxDirective):
    """Table of what each suite runs."""

    def run(self) -> list[nodes.Node]:
        """Return a table with one row per block of a suite."""
        lines = [HEAD, "| --- | --- | --- | --- | --- | --- |"]
        for name, path in registry.suites().items():
            lines += [f"| `{name}` | {' | '.join(row(block))} |" for block in read_suite(path).blocks]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("suite-table", SuiteTable)
    return {"parallel_read_safe": True}
