"""Two rules of ranking side by side, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from cellular_bench.benchmark.external.rank_comparison import STEPS, Way
from cellular_bench.reports.tables.model import MISSING, number
from cellular_bench.reports.text.markdown_and_csv import escape


def rules_markdown(ways: Sequence[Way], *, title: str) -> str:
    """Return a table of methods with their rank and score after each step from their rule to ours."""
    heads = ["Method", "Track", *(f"Step {i}" for i in range(1, len(STEPS) + 1)), "Ours", "Why not ranked"]
    rows = [heads, ["---"] * len(heads), *(_row(way) for way in ways)]
    steps = [f"{i}. {step}" for i, step in enumerate(STEPS, 1)]
    return (
        f"# {escape(title)}: two rules of ranking\n\n"
        "Rank (mean score over data sets) after each step from their rule to ours. Controls have no rank.\n\n"
        + "\n".join(steps)
        + "\n\nOurs: rank within the track, among methods that are complete on every data set; nothing "
        "counts as 0. Where a method gains from step 1 to step 2, missing values had cost it; what is left "
        "may be the easier data sets, which is why an incomplete method has no rank of ours.\n\n"
        + "\n".join("| " + " | ".join(row) + " |" for row in rows)
        + "\n"
    )


def _row(way: Way) -> list[str]:
    steps = [
        MISSING if score is None else f"{rank or 'control'} ({number(score)})"
        for rank, score in zip(way.ranks, way.scores, strict=True)
    ]
    return [escape(way.name), way.track, *steps, str(way.our_rank or MISSING), escape(way.reason)]
