"""Settings of TOSICA's training, and the presets."""

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
    layout: str = "published"
    epochs: int = 10
    batch_size: int = 8
    learning_rate: float = 1e-3


#: The authors' settings, which the CELLULAR study also used.
DEFAULT: Final = Settings()
PRESETS: Final = {
    "default": DEFAULT,
    "paper": DEFAULT,
    "sets": replace(DEFAULT, layout="set", batch_size=64, learning_rate=8e-3),
}
