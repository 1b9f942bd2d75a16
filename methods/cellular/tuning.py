"""Search for the classifier's shape and learning rate on the validation cells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from cellular_bench.methods.cellular.settings import ClassifierSettings, Settings
from cellular_bench.methods.cellular.training import train_classifier

if TYPE_CHECKING:
    from cellular_bench.methods.cellular.state import Fitted


def tune_classifier(
    fitted: Fitted, *, settings: Settings, n_trials: int, seed: int, device: torch.device
) -> ClassifierSettings:
    """Return the settings with the least validation loss among ``n_trials``.

    Every trial trains a classifier on the one embedding in ``fitted``; the encoder is left alone. The
    sampler is optuna's tree-structured Parzen estimator with a seed, over the study's space: hidden
    widths 64 to 2048 in steps of 64, learning rate 1e-5 to 1e-2 (logarithmic), dropout 0 to 0.5.
    """
    import optuna

    def validation_loss(trial: Any) -> float:
        _, history = train_classifier(
            fitted.train_emb,
            fitted.train_label,
            fitted.train_rows,
            fitted.validation_rows,
            n_labels=len(fitted.labels),
            settings=settings,
            classifier=_suggest(trial),
            seed=seed,
            device=device,
        )
        return history.epochs[history.best_epoch].validation["total"]

    with _quiet(optuna.logging):
        study = optuna.create_study(direction="minimize", sampler=optuna.samplers.TPESampler(seed=seed))
        study.optimize(validation_loss, n_trials=n_trials)
    return _suggest(study.best_trial)


def _suggest(trial: Any) -> ClassifierSettings:
    """Read one point of the space; a finished trial gives its own values again."""
    return ClassifierSettings(
        hidden=(
            trial.suggest_int("hidden_1", 64, 2048, step=64),
            trial.suggest_int("hidden_2", 64, 2048, step=64),
        ),
        learning_rate=trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True),
        dropout=trial.suggest_float("dropout", 0.0, 0.5, step=0.1),
    )


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Leave out the line per trial, and restore optuna's global verbosity after."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)
