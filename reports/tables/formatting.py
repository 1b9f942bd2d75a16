"""How numbers, counts and addresses are written in a report."""

from __future__ import annotations

import hashlib
import re
from typing import Final
from urllib.parse import quote

from cellular_bench.benchmark.analysis.leaderboard import Summary
from cellular_bench.core.text import MOST_NAME, cut

#: The most characters of a text in an ``id``.
MOST_ANCHOR: Final = 100


def doi_url(doi: str) -> str:
    """Return the link of a DOI, given with or without a resolver or ``doi:`` before it."""
    bare = re.sub(r"^(https?://(dx\.)?doi\.org/|doi:)", "", doi.strip())
    return "https://doi.org/" + quote(cut(bare, MOST_NAME), safe="/:;", errors="replace")


def anchor(text: str) -> str:
    """Return a text as an ``id`` of the page: no spaces, nothing that ends an attribute, not long.

    A text that is not kept as it is ends in digits of its digest, so that other texts have other ids.

    Examples
    --------
    >>> anchor("integration-baron-kfold"), anchor("a b"), anchor("a-b")
    ('integration-baron-kfold', 'a-b-c8687a08', 'a-b')
    """
    kept = re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:MOST_ANCHOR]
    if kept == text:
        return kept
    return f"{kept}-{hashlib.sha256(text.encode(errors='backslashreplace')).hexdigest()[:8]}"


def number(value: float) -> str:
    """Write a score: three decimals and a true minus sign.

    Examples
    --------
    >>> number(-0.12345)
    '−0.123'
    """
    text = f"{value:.3f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def signed(value: float) -> str:
    """Write a difference of scores with its sign; none for a zero.

    Examples
    --------
    >>> signed(0.15), signed(-0.15), signed(0.0001)
    ('+0.150', '−0.150', '0.000')
    """
    text = number(value)
    return f"+{text}" if value > 0 and float(text) else text


def quantity(value: float) -> str:
    """Write seconds or mebibytes with about three digits: ``"0.12"``, ``"12.3"``, ``"12,346"``."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def plural(count: int, noun: str) -> str:
    """Write a count with its noun: ``"1 run"``, ``"2 runs"``, ``"3 batches"``."""
    ending = "es" if noun.endswith(("ch", "s")) else "s"
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}{ending}"


def spread(summary: Summary) -> str:
    """Write the standard deviation of scores; empty for a single one."""
    return "" if summary.std is None else f"± {number(summary.std)}"


def bounds(low: float, high: float) -> str:
    """Write a confidence interval of a score, cut at 0 and 1: ``"[0.510, 1.000]"``."""
    return f"[{number(max(low, 0.0))}, {number(min(high, 1.0))}]"


def p_value(value: float) -> str:
    """Write a p value: ``"p = 0.012"``, ``"p < 0.001"``."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def ordinal(place: int) -> str:
    """Write a place: ``"1st"``, ``"2nd"``, ``"11th"``."""
    ending = "th" if 10 < place % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"
