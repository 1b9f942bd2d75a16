"""Settings of scNym's training, and the two presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

CHECKPOINTS: Final = ("best", "last")
INPUT_SCALES: Final = ("cpm", "as_is")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of architecture and training.

    Attributes
    ----------
    input_scale
        ``"cpm"``: log1p of counts per million, from ``X``. ``"as_is"``: ``X``.
    shared_block
        True: the second and third hidden layer share their weights, as in versions up to 0.3.2.
    keep_partial
        True: the last mini-batch of an epoch may be smaller than the others.
    patience
        Training ends after more than this number of epochs without a lower selection loss; None: no early
        end.
    checkpoint
        ``"best"``: weights of the epoch with the lowest selection loss. ``"last"``: those of the last epoch.
    held_out_share
        Share of the labelled cells that the package sets aside for a report; the same share of the
        remaining cells selects the epoch.
    min_confidence
        Minimum probability of pseudolabels used for training.
    """

    epochs: int = 100
    batch_size: int = 256
    learning_rate: float = 1.0
    weight_decay: float = 1e-4
    input_scale: str = "cpm"
    shared_block: bool = False
    keep_partial: bool = False
    patience: int | None = 40
    checkpoint: str = "best"
    held_out_share: float = 0.1
    min_confidence: float = 0.0


DEFAULT: Final = Settings()
PRESETS: Final = {
    "default": DEFAULT,
    "paper": replace(
        DEFAULT,
        input_scale="as_is",
        shared_block=True,
        keep_partial=True,
        patience=None,
        checkpoint="last",
    ),
}
