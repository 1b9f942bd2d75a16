"""Pretrained models whose embeddings are often benchmarked, and what they had learned from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cellular_bench.core.errors import UserError
from cellular_bench.core.types import Pretrained

#: Models by the name of the parameter ``model``. ``trained_until`` is the release of the training data where
#: the authors state it (scGPT: CELLxGENE census of 2023-05-08), else the month of the model's publication or
#: of its current weights, which no training data can be later than. ``docs/methods/precomputed.md`` has the
#: references and how to compute each embedding.
MODELS: Final[Mapping[str, Pretrained]] = MappingProxyType(
    {
        "scgpt": Pretrained(name="scGPT", trained_until="2023-05"),
        "geneformer": Pretrained(name="Geneformer", trained_until="2024-12"),
        "uce": Pretrained(name="UCE", trained_until="2023-11"),
        "scimilarity": Pretrained(name="SCimilarity", trained_until="2024-11"),
    }
)

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


def check_month(value: str, what: str) -> str:
    """Return a month such as ``"2023-05"``.

    Raises
    ------
    UserError
        If the text has another form.
    """
    if not isinstance(value, str) or not _MONTH.fullmatch(value):
        raise UserError(f"{what} is {value!r}; it must be a month, such as '2023-05'.")
    return value


def pretrained_model(model: str, trained_until: str | None) -> Pretrained:
    """Describe a model by its name here, or as the user names it; a month that is given has precedence."""
    known = MODELS.get(model.lower(), Pretrained(name=model))
    return Pretrained(name=known.name, trained_until=trained_until or known.trained_until)
