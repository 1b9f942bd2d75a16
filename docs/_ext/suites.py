"""Sphinx directives ``suite-table`` and ``dataset-table``, whose contents are read when the site is built."""

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


class DatasetTable(SphinxDirective):
    """Table of every data set in the catalogue."""

    def run(self) -> list[nodes.Node]:
        """Return a table with one row per data set."""
        lines = [
            "| data set | what | organism | cells | batches | labels | licence | source |",
            "| --- | --- | --- | ---: | --- | --- | --- | --- |",
        ]
        for name, spec in registry.datasets().items():
            cells = [
                f"`{name}`",
                spec.title,
                spec.organism,
                f"{spec.n_obs:,}" if spec.n_obs else "",
                f"`{spec.batch_key}`" if spec.batch_key else "one",
                f"`{spec.label_key}`",
                spec.license or "not stated",
                f"[{spec.doi}](<https://doi.org/{spec.doi}>)" if spec.doi else "",
            ]
            lines.append(f"| {' | '.join(text.replace('|', '/') for text in cells)} |")
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("suite-table", SuiteTable)
    app.add_directive("dataset-table", DatasetTable)
    return {"parallel_read_safe": True}
