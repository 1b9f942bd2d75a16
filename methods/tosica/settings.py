"""Settings of TOSICA's training, and the two presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

LAYOUTS: Final = ("set", "published")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of architecture and training.

    Attributes
    ----------
    max_gene_sets
        Maximum number of tokens, including the token of all genes.
    max_set_size
        Gene sets with more genes in the file are left out.
    layout
        ``"set"``: each token is computed from the genes of one set. ``"published"``: as in the published
        code, in which token c takes its w-th value from set ``(w * n_tokens + c) // 48``.
    """

    max_gene_sets: int = 300
    max_set_size: int = 300
    layout: str = "set"
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 8e-3


DEFAULT: Final = Settings()
PRESETS: Final = {
    "default": DEFAULT,
    "paper": replace(DEFAULT, layout="published", batch_size=8, learning_rate=1e-3),
}
