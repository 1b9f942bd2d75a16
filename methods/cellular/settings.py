"""Every number that the training reads, and the two presets.

``PAPER`` is the study's recipe, peculiarities included. ``DEFAULT`` is ``PAPER`` with the changes
written below it and nothing else; ``docs/methods/cellular.md`` gives the measured effect of each.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Final

from cellular_bench.core.errors import UnknownNameError, UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """What each term counts in the total; used where there are batch keys."""

    type: float = 0.9
    batch: float = 0.1
    centroid: float = 1.0


#: Which terms are trained on; the last two are the study's ablation.
LOSS_TERMS: Final = {
    "full": LossWeights(),
    "contrastive": LossWeights(centroid=0.0),
    "centroid": LossWeights(type=0.0, batch=0.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierSettings:
    """Shape and learning of the classifier: what tuning varies.

    Attributes
    ----------
    hidden
        Widths of the two hidden layers.
    """

    hidden: tuple[int, int] = (512, 512)
    dropout: float = 0.2
    learning_rate: float = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The recipe.

    Attributes
    ----------
    n_components
        Principal components in which the target distances between types are measured.
    n_inner_folds
        One part in this many of the training cells is held out to choose the best epoch.
    warmup_from_zero
        True: the rate of epoch ``e`` is ``e / warmup_epochs`` of the schedule's, so that epoch 0 learns
        nothing. False: ``(e + 1) / (warmup_epochs + 1)``.
    validation_counts_cells
        True: the type term of the validation loss, which chooses the encoder's epoch, counts every cell
        alike. False: it weighs types as the training loss does, by inverse frequency, so that a handful
        of cells of the rarest types decide.
    softmax_before_loss
        True: the classifier's cross-entropy is taken of its softmax output, not of its logits.
    precision
        ``"float32"``, or ``"bf16"``: the encoder's matrix products in training are rounded to bfloat16.
    n_trials
        Trials of the search for the classifier's shape and learning rate; 0 for none.
    tuning_widths
        Narrowest and widest hidden layer that the search tries, multiples of 64.
    prune_trials
        True: a trial ends early unless it is among the best third of those that came as far.
    novelty_kind
        Score returned as novelty; see ``novelty.novelty_score``.
    """

    n_latent: int = 100
    dropout: float = 0.2
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 5e-5
    max_epochs: int = 50
    patience: int = 20
    warmup_epochs: int = 4
    warmup_from_zero: bool = True
    temperature: float = 0.25
    temperature_range: tuple[float, float] = (0.1, 2.0)
    n_components: int = 100
    n_inner_folds: int = 5
    validation_counts_cells: bool = False
    precision: str = "float32"
    classifier: ClassifierSettings = ClassifierSettings()
    classifier_max_epochs: int = 50
    classifier_patience: int = 10
    softmax_before_loss: bool = True
    n_trials: int = 100
    tuning_widths: tuple[int, int] = (64, 2048)
    prune_trials: bool = False
    novelty_kind: str = "likelihood"


PAPER: Final = Settings()
DEFAULT: Final = replace(
    PAPER,
    warmup_from_zero=False,
    validation_counts_cells=True,
    softmax_before_loss=False,
    n_trials=0,
    tuning_widths=(64, 512),
    prune_trials=True,
    novelty_kind="max_logit",
)
PRECISIONS: Final = ("float32", "bf16")
PRESETS: Final = {"default": DEFAULT, "paper": PAPER}


def settings_for(preset: str, **changes: Any) -> Settings:
    """Return a preset with some of its numbers changed.

    Parameters
    ----------
    preset
        ``"default"`` or ``"paper"``.
    changes
        Fields of :class:`Settings`; None keeps the preset's value.

    Raises
    ------
    UserError
        If the preset or a field is unknown, or a number is out of range.

    Examples
    --------
    >>> settings_for("paper", max_epochs=3).max_epochs
    3
    """
    if preset not in PRESETS:
        raise UnknownNameError("preset", preset, PRESETS)
    known = {field.name for field in fields(Settings)}
    for name in changes:
        if name not in known:
            raise UnknownNameError("setting", name, known)
    settings = replace(
        PRESETS[preset], **{name: value for name, value in changes.items() if value is not None}
    )
    for name in ("n_latent", "max_epochs", "patience", "n_components", "classifier_max_epochs"):
        if getattr(settings, name) < 1:
            raise UserError(f"cellular: {name} is {getattr(settings, name)}; it must be at least 1.")
    if settings.precision not in PRECISIONS:
        raise UnknownNameError("precision", settings.precision, PRECISIONS)
    if settings.n_trials < 0:
        raise UserError(f"cellular: n_trials is {settings.n_trials}; it must be 0 (no search) or more.")
    narrowest, widest = settings.tuning_widths
    if not 64 <= narrowest <= widest or narrowest % 64 or widest % 64:
        raise UserError(
            f"cellular: tuning_widths is {settings.tuning_widths}; two multiples of 64 are wanted, the "
            "smaller first."
        )
    for name in ("batch_size", "n_inner_folds"):
        if getattr(settings, name) < 2:
            raise UserError(f"cellular: {name} is {getattr(settings, name)}; it must be at least 2.")
    return settings
