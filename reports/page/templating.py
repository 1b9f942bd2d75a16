"""Renders the templates of the pages."""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from cellular_bench.core.errors import UserError
from cellular_bench.reports.tables.formatting import anchor, doi_url

if TYPE_CHECKING:
    from markupsafe import Markup


def render_page(template: str, **content: Any) -> str:
    """Return a page; every text is escaped except our own style and script."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    engine = Environment(
        loader=PackageLoader("cellular_bench.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.globals["static"] = _static
    engine.filters |= {"data_uri": data_uri, "doi_url": doi_url, "anchor": anchor}
    return engine.get_template(template).render(content)


def _static(name: str) -> Markup:
    from markupsafe import Markup

    text = files("cellular_bench.reports").joinpath("static", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 - our own file, shipped with the package


def data_uri(data: bytes) -> str:
    """Return a picture as text for the ``src`` of an image; UserError unless it is PNG, WebP or SVG."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "png"
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "webp"
    elif data.lstrip()[:5] in (b"<?xml", b"<svg "):
        kind = "svg+xml"
    else:
        raise UserError(f"A figure of {len(data)} bytes is neither PNG, WebP nor SVG: use one of these.")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
