"""A card for every metric: definition, formula, pitfalls and a worked example.

Definition, range, direction, version and source are those of :class:`MetricSpec`. Formula and pitfalls are
paragraphs of the function's docstring, in its section *Notes*, that begin with ``Formula:`` and ``Fooled
by:``; the example is its section *Examples*. What canary embeddings gain is measured
(:mod:`cellular_bench.metrics.fooled_by`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cellular_bench.core.errors import UnknownNameError
from cellular_bench.core.types import MetricSpec, aspect_title
from cellular_bench.metrics.fooled_by import Measured, measured_of
from cellular_bench.metrics.spec import METRICS, required_inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricCard:
    """The facts that a reader needs to interpret the values of a metric.

    Attributes
    ----------
    spec
        Definition, range, direction, version and source.
    formula
        Formula of the value.
    fooled_by
        Conditions in which a good or bad value means little.
    measured
        What canary embeddings gain on the metric, a line per data set; empty where it was not measured.
    example
        Python session that runs; its names are those of ``cellular_bench.metrics`` and numpy as ``np``.
    """

    spec: MetricSpec
    formula: str
    fooled_by: str
    example: str
    measured: tuple[Measured, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Parts of the card that the docstring lacks."""
        return tuple(name for name in ("formula", "fooled_by", "example") if not getattr(self, name))


def card(metric_id: str) -> MetricCard:
    """Return the card of a metric.

    Raises
    ------
    UnknownNameError
        If no metric has this id.

    Examples
    --------
    >>> card("accuracy").formula
    'correct cells / all cells.'
    """
    if metric_id not in METRICS:
        raise UnknownNameError("metric", metric_id, METRICS)
    return card_of(METRICS[metric_id])


def card_of(spec: MetricSpec) -> MetricCard:
    """Return the card of a metric that need not be registered."""
    text = inspect.getdoc(spec.function) or ""
    notes = _section(text, "Notes")
    return MetricCard(
        spec=spec,
        formula=_paragraph(notes, "Formula:"),
        fooled_by=_paragraph(notes, "Fooled by:"),
        example=_section(text, "Examples"),
        measured=measured_of(spec),
    )


def _section(text: str, title: str) -> str:
    """Return the body of a section of a numpy docstring; empty if there is none."""
    match = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n---+$|\Z)", text, flags=re.DOTALL | re.MULTILINE)
    return match.group(1).strip() if match else ""


def _paragraph(section: str, start: str) -> str:
    for paragraph in section.split("\n\n"):
        if paragraph.startswith(start):
            return " ".join(paragraph.removeprefix(start).split())
    return ""


def render(shown: MetricCard) -> str:
    """Return a card as Markdown."""
    spec = shown.spec
    better = "higher" if spec.higher_is_better else "lower"
    source = f"[doi:{spec.doi}](https://doi.org/{_quoted(spec.doi)})" if spec.doi else "-"
    lines = [
        f"### {_heading(spec)}",
        "",
        spec.definition,
        "",
        f"- Range: {spec.minimum:.4g} to {spec.maximum:.4g}; {better} is better",
        f"- Counts in the overall score: {'yes' if spec.in_overall else 'no'}; version {spec.version}",
        f"- Needs: {', '.join(f'`{name}`' for name in required_inputs(spec))}",
        f"- Reference: {source}",
        f"- Formula: {shown.formula or '(not written yet)'}",
        f"- Fooled by: {shown.fooled_by or '(not written yet)'}",
    ]
    if shown.measured:
        gains = "; ".join(map(str, shown.measured))
        lines.append(
            f"- Measured with [canary embeddings](methods/controls.md#canary-embeddings): fooled {gains}"
        )
    return "\n".join([*lines, "", "```python", shown.example or "# (not written yet)", "```", ""])


def _heading(spec: MetricSpec) -> str:
    return f"{spec.name} (`{spec.metric_id}`)"


def _anchor(spec: MetricSpec) -> str:
    """Return the anchor that GitHub and the site derive from the heading."""
    return re.sub(r"[^\w -]", "", _heading(spec).lower()).replace(" ", "-")


def _overview(specs: Sequence[MetricSpec]) -> list[str]:
    """Return a table with a row per metric, linked to its card."""
    lines = ["| metric | range | better | in overall | version |", "| --- | --- | --- | --- | --- |"]
    for spec in specs:
        better = "higher" if spec.higher_is_better else "lower"
        counts = "on request" if spec.on_request else "yes" if spec.in_overall else "no"
        ends = f"{spec.minimum:.4g} to {spec.maximum:.4g}"
        where = f"[{spec.name}](#{_anchor(spec)})"
        lines.append(f"| {where} | {ends} | {better} | {counts} | {spec.version} |")
    return [*lines, ""]


def _quoted(doi: str) -> str:
    """Escape characters that would end a Markdown link."""
    return "".join(f"%{ord(letter):02X}" if letter in "()<>" else letter for letter in doi)


def render_all() -> str:
    """Return the cards of all metrics as the text of ``docs/metrics.md``."""
    parts = [
        "# Metrics",
        "",
        "Written by `run-benchmark list metrics --format markdown`; edit the functions in `metrics/`.",
        "The names in the examples come from `cellular_bench.metrics`, and `np` is numpy.",
        "",
    ]
    for aspect in dict.fromkeys(spec.aspect for spec in METRICS.values()):
        specs = [spec for spec in METRICS.values() if spec.aspect == aspect]
        parts += [f"## {aspect_title(aspect)}", "", *_overview(specs)]
        parts += [render(card(spec.metric_id)) for spec in specs]
    return "\n".join(parts).rstrip() + "\n"
