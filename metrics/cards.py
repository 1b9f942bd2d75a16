"""A card for every metric: what it is, how it is computed, what fools it, and a worked example.

What :class:`MetricSpec` holds is read from it. Formula and pitfalls are paragraphs of the function's
docstring, in its section *Notes*, that begin with ``Formula:`` and ``Fooled by:``; the example is its
section *Examples*. A metric whose docstring lacks them has them in ``data/cards.toml``.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from cellular_bench.core.errors import UnknownNameError
from cellular_bench.core.types import MetricSpec, aspect_title
from cellular_bench.metrics.spec import METRICS, required_inputs

FOLDER = "cellular_bench.metrics"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricCard:
    """What a reader must know of a metric before believing its value.

    Attributes
    ----------
    spec
        Definition, range, direction, version and source.
    formula
        How the value follows from the inputs.
    fooled_by
        When a good value means little, or a bad one.
    example
        Python session that runs; its names are those of ``cellular_bench.metrics`` and numpy as ``np``.
    """

    spec: MetricSpec
    formula: str
    fooled_by: str
    example: str

    @property
    def missing(self) -> tuple[str, ...]:
        """Parts of the card that nobody has written."""
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
    'right cells / all cells.'
    """
    if metric_id not in METRICS:
        raise UnknownNameError("metric", metric_id, METRICS)
    spec = METRICS[metric_id]
    found = {**_supplement().get(metric_id, {}), **docstring_parts(spec)}
    return MetricCard(spec=spec, **{name: found.get(name, "") for name in _PARTS})


_PARTS = ("formula", "fooled_by", "example")


def docstring_parts(spec: MetricSpec) -> dict[str, str]:
    """Return the parts of a card that the docstring of the metric's function holds."""
    text = inspect.getdoc(spec.function) or ""
    notes, examples = (_section(text, title) for title in ("Notes", "Examples"))
    parts = {"formula": _paragraph(notes, "Formula:"), "fooled_by": _paragraph(notes, "Fooled by:")}
    return {name: value for name, value in {**parts, "example": examples}.items() if value}


def _section(text: str, title: str) -> str:
    """Return the body of a section of a numpy docstring, empty where there is none."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n---+$|\Z)", text, flags=re.DOTALL | re.MULTILINE)
    return found.group(1).strip() if found else ""


def _paragraph(section: str, start: str) -> str:
    for paragraph in section.split("\n\n"):
        if paragraph.startswith(start):
            return " ".join(paragraph.removeprefix(start).split())
    return ""


@cache
def _supplement() -> dict[str, dict[str, str]]:
    source = files(FOLDER).joinpath("data/cards.toml")
    parts: dict[str, dict[str, str]] = tomllib.loads(source.read_text("utf-8"))
    return {name: {key: value.strip() for key, value in part.items()} for name, part in parts.items()}


def render(found: MetricCard) -> str:
    """Return a card as Markdown."""
    spec = found.spec
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
        f"- Formula: {found.formula or '(not written yet)'}",
        f"- Fooled by: {found.fooled_by or '(not written yet)'}",
    ]
    return "\n".join([*lines, "", "```python", found.example or "# (not written yet)", "```", ""])


def _heading(spec: MetricSpec) -> str:
    return f"{spec.name} (`{spec.metric_id}`)"


def _anchor(spec: MetricSpec) -> str:
    """Return what GitHub and the site make of the heading in an address."""
    return re.sub(r"[^\w -]", "", _heading(spec).lower()).replace(" ", "-")


def _overview(specs: Sequence[MetricSpec]) -> list[str]:
    """Return a table with a line per metric that leads to its card."""
    lines = ["| metric | range | better | in overall | version |", "| --- | --- | --- | --- | --- |"]
    for spec in specs:
        better = "higher" if spec.higher_is_better else "lower"
        counts = "on request" if spec.on_request else "yes" if spec.in_overall else "no"
        ends = f"{spec.minimum:.4g} to {spec.maximum:.4g}"
        where = f"[{spec.name}](#{_anchor(spec)})"
        lines.append(f"| {where} | {ends} | {better} | {counts} | {spec.version} |")
    return [*lines, ""]


def _quoted(doi: str) -> str:
    """Escape what would end a Markdown link early."""
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
