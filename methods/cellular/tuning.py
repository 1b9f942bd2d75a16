"""Search for the classifier's shape and learning rate on the validation cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cellular_bench.methods.cellular.loop import Epoch
from cellular_bench.methods.cellular.settings import ClassifierSettings, Settings
from cellular_bench.methods.cellular.training import train_classifier

if TYPE_CHECKING:
    from cellular_bench.methods.cellular.state import Fitted

#: With pruning, a trial continues after this epoch (counted from 0), and after 3, 9 ... times this number,
#: only if it is among the best third of the trials that have reached it.
EPOCHS_BEFORE_PRUNING = 2
KEPT_SHARE = 3
#: Number of trials between two lines of progress.
REPORT_EVERY = 10


def tune_classifier(
    fitted: Fitted,
    *,
    settings: Settings,
    seed: int,
    device: torch.device,
    storage: Path | None = None,
    progress: bool = False,
) -> ClassifierSettings:
    """Return the classifier settings with the lowest validation loss among ``settings.n_trials`` trials.

    Every trial trains a classifier on the embedding in ``fitted``; the encoder does not change. The sampler
    is optuna's tree-structured Parzen estimator with a seed. The search space is hidden widths in
    ``settings.tuning_widths`` in steps of 64, learning rate 1e-5 to 1e-2 (logarithmic) and dropout 0 to 0.5.

    ``storage`` is a file that stores every trial. An interrupted search resumes from it with the remaining
    trials; a search on another embedding or with other settings is stored separately in the same file.
    """
    import optuna

    with _quiet(optuna.logging):
        study = optuna.create_study(
            study_name=_name(fitted, settings=settings, seed=seed),
            storage=_storage(storage),
            load_if_exists=True,
            direction="minimize",
            pruner=_pruner(settings),
        )
        # A resumed search must not draw its first points again.
        study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
        study.optimize(
            _objective(fitted, settings=settings, seed=seed, device=device),
            n_trials=max(0, settings.n_trials - len(_finished(study))),
            callbacks=[_reporter(settings.n_trials)] if progress else None,
        )
    return _suggest(study.best_trial, settings.tuning_widths)


def _objective(
    fitted: Fitted, *, settings: Settings, seed: int, device: torch.device
) -> Callable[[Any], float]:
    """Return the objective: the validation loss of the classifier of a trial."""
    import optuna

    def validation_loss(trial: Any) -> float:
        def report(epoch: Epoch) -> None:
            trial.report(epoch.validation["total"], step=epoch.epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        _, history = train_classifier(
            fitted,
            settings=settings,
            classifier=_suggest(trial, settings.tuning_widths),
            seed=seed,
            device=device,
            after_epoch=report,
        )
        return history.epochs[history.best_epoch].validation["total"]

    return validation_loss


def _suggest(trial: Any, widths: tuple[int, int]) -> ClassifierSettings:
    """Return one point of the search space; a finished trial returns its stored values."""
    return ClassifierSettings(
        hidden=(
            trial.suggest_int("hidden_1", *widths, step=64),
            trial.suggest_int("hidden_2", *widths, step=64),
        ),
        learning_rate=trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True),
        dropout=trial.suggest_float("dropout", 0.0, 0.5, step=0.1),
    )


def _name(fitted: Fitted, *, settings: Settings, seed: int) -> str:
    """Return a name that identifies everything the losses depend on, which excludes the number of trials."""
    digest = hashlib.sha256(json.dumps([asdict(replace(settings, n_trials=0)), seed]).encode())
    for array in (fitted.train_emb, fitted.train_label, fitted.train_rows, fitted.validation_rows):
        digest.update(array.tobytes())
    return f"classifier-{digest.hexdigest()[:16]}"


def _storage(path: Path | None) -> Any:
    if path is None:
        return None
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def _pruner(settings: Settings) -> Any:
    import optuna

    if not settings.prune_trials:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=EPOCHS_BEFORE_PRUNING, reduction_factor=KEPT_SHARE
    )


def _finished(study: Any) -> list[Any]:
    """Return the completed and pruned trials, without interrupted ones."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name in ("COMPLETE", "PRUNED")]


def _reporter(n_trials: int) -> Callable[[Any, Any], None]:
    def report(study: Any, trial: Any) -> None:
        del trial
        finished = _finished(study)
        if len(finished) % REPORT_EVERY == 0 or len(finished) == n_trials:
            n_pruned = sum(trial.state.name == "PRUNED" for trial in finished)
            print(
                f"cellular: {len(finished)} of {n_trials} trials ({n_pruned} ended early), "
                f"lowest validation loss {study.best_value:.4f}",
                flush=True,
            )

    return report


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Suppress optuna's line per trial, and restore its global verbosity at the end."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)
