"""The template engine of the pages, and what templates may call."""

from __future__ import annotations

import base64
import re
from importlib.resources import files
from typing import TYPE_CHECKING

from cellular_bench.core.errors import UserError

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def engine() -> Environment:
    """Return a template engine that escapes every text unless it is our own style or script."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cellular_bench.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["static"] = _static
    environment.filters["data_uri"] = data_uri
    environment.filters["doi_url"] = doi_url
    environment.filters["anchor"] = anchor
    environment.filters["hash"] = "#{}".format  # how a head of numbers is told from one of words
    return environment


def _static(name: str) -> Markup:
    from markupsafe import Markup

    text = files("cellular_bench.reports").joinpath("static", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 - our own file, shipped with the package


def anchor(text: str) -> str:
    """Return a text as an ``id``: no spaces, nothing that ends an attribute."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)


def doi_url(doi: str) -> str:
    """Return the link of a DOI, given with or without a resolver or ``doi:`` before it."""
    return "https://doi.org/" + re.sub(r"^(https?://(dx\.)?doi\.org/|doi:)", "", doi.strip())


def data_uri(data: bytes) -> str:
    """Return a picture as text for the ``src`` of an image.

    Raises
    ------
    UserError
        If it is not PNG, WebP or SVG.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "png"
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "webp"
    elif data.lstrip()[:5] in (b"<?xml", b"<svg "):
        kind = "svg+xml"
    else:
        raise UserError(f"A figure of {len(data)} bytes is neither PNG, WebP nor SVG: use one of these.")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
