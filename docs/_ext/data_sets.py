"""Sphinx directive ``dataset-table``: the data sets, read from their manifests when the site is built."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from cellular_bench.benchmark import registry


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
    """Register the directive."""
    app.add_directive("dataset-table", DatasetTable)
    return {"parallel_read_safe": True}
