"""Settings of the training, and the two presets.

``PAPER`` holds the settings of the study, including its peculiarities. ``DEFAULT`` is ``PAPER`` with the
changes listed in its definition; ``docs/methods/cellular.md`` gives the measured effect of each.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Final

from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.methods._presets import preset_with


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """Weight of each term in the total loss, if there are batch keys."""

    type: float = 0.9
    batch: float = 0.1
    centroid: float = 1.0


#: Terms of the loss; the last two are the ablations of the study.
LOSS_TERMS: Final = {
    "full": LossWeights(),
    "contrastive": LossWeights(centroid=0.0),
    "centroid": LossWeights(type=0.0, batch=0.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierSettings:
    """Shape and learning rate of the classifier, which tuning varies.

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
    """Settings of architecture and training.

    Attributes
    ----------
    n_components
        Number of principal components in which the target distances between types are measured.
    n_inner_folds
        One in this many training cells is held out to select the best epoch.
    warmup_from_zero
        True: the learning rate of epoch ``e`` is the scheduled one times ``e / warmup_epochs``, so that
        epoch 0 learns nothing. False: times ``(e + 1) / (warmup_epochs + 1)``.
    split_seed
        Seed of the draw of the held-out cells; None: the seed of the model.
    validation_drops_rest
        True: the validation loss is computed on full mini-batches of held-out cells in the order of the
        data, without the cells that do not fill a mini-batch. False: on all held-out cells in random order,
        in chunks of nearly equal size.
    validation_counts_cells
        True: all cells have equal weight in the type term of the validation loss, which selects the
        encoder's epoch. False: types are weighted by inverse frequency as in the training loss, so that a
        few cells of the rarest types decide.
    softmax_before_loss
        True: the cross-entropy of the classifier is computed from its softmax output, not from its logits.
    precision
        ``"float32"``, or ``"bf16"``: matrix products of the encoder are rounded to bfloat16 in training.
    n_trials
        Number of trials of the search for the classifier's shape and learning rate; 0 for no search.
    tuning_widths
        Minimum and maximum width of a hidden layer in the search, multiples of 64.
    prune_trials
        True: a trial ends early unless it is among the best third of trials at that epoch.
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
    split_seed: int | None = 42
    validation_drops_rest: bool = True
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
    split_seed=None,
    validation_drops_rest=False,
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
    """Return a preset with some fields of :class:`Settings` changed; None keeps the value of the preset.

    Raises ``UserError`` if the preset or a field is unknown, or if a value is out of range.

    Examples
    --------
    >>> settings_for("paper", max_epochs=3).max_epochs
    3
    """
    known = {field.name for field in fields(Settings)}
    for name in changes:
        if name not in known:
            raise UnknownNameError("setting", name, known)
    settings = preset_with(PRESETS, preset, **changes)
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
            f"cellular: tuning_widths is {settings.tuning_widths}; expected two multiples of 64, the smaller "
            "first."
        )
    for name in ("batch_size", "n_inner_folds"):
        if getattr(settings, name) < 2:
            raise UserError(f"cellular: {name} is {getattr(settings, name)}; it must be at least 2.")
    return settings
