"""Renders the templates of the pages."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from cellular_bench.core.errors import UserError
from cellular_bench.core.text import cut, visible
from cellular_bench.reports.tables.formatting import anchor, doi_url

if TYPE_CHECKING:
    from markupsafe import Markup


#: The scripts of each page; no other may run in it.
SCRIPTS: Final[Mapping[str, tuple[str, ...]]] = {
    "leaderboard.html.j2": ("report.js", "aids.js"),
    "live.html.j2": ("live.js",),
}
#: The most characters of a text that is shown on demand, such as the end of a log.
MOST_FOLDED: Final = 8000


def render_page(template: str, **content: Any) -> str:
    """Return a page; every text is escaped except our own style and script.

    What cannot be seen is written as escapes, and long texts are cut. A browser applies the page's style and
    runs its script only if they have the digests that the head of the page names.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    engine = Environment(
        loader=PackageLoader("cellular_bench.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    engine.filters |= {"data_uri": data_uri, "doi_url": doi_url, "anchor": anchor, "folded": _folded}
    style, script = _static("report.css"), _static(*SCRIPTS.get(template, ()))
    ours = {
        "style": style,
        "script": script,
        "style_digest": _digest(style),
        "script_digest": _digest(script),
    }
    return engine.get_template(template).render(content | ours)


def _shown(value: Any) -> Any:
    """Return what a page writes for a value; what is markup already stays as it is."""
    return visible(cut(value)) if type(value) is str else value


def _folded(text: str) -> Markup:
    from markupsafe import escape

    return escape(visible(cut(text, MOST_FOLDED)))


def _static(*names: str) -> Markup:
    from markupsafe import Markup

    folder = files("cellular_bench.reports") / "static"
    text = "".join((folder / name).read_text(encoding="utf-8") for name in names)
    return Markup(text)  # noqa: S704 - our own files, shipped with the package


def _digest(text: str) -> Markup:
    """Return the source of a Content-Security-Policy that allows this text and no other."""
    from markupsafe import Markup

    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return Markup(f"'sha256-{digest}'")  # noqa: S704 - quotes and base64


def data_uri(data: bytes) -> Markup:
    """Return a picture as text for the ``src`` of an image; UserError unless it is PNG, WebP or SVG."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "png"
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "webp"
    elif data.lstrip()[:5] in (b"<?xml", b"<svg "):
        kind = "svg+xml"
    else:
        raise UserError(f"A figure of {len(data)} bytes is neither PNG, WebP nor SVG: use one of these.")
    from markupsafe import Markup

    return Markup(f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}")  # noqa: S704 - base64
