"""The training loop of encoder and classifier: epochs, learning rate, early stopping, history."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.methods.cellular.minibatches import MiniBatches, Rows
from cellular_bench.methods.cellular.settings import Settings

Terms = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Mean of each loss term over the mini-batches of one epoch.

    If ``Settings.validation_counts_cells`` is set, types have different weights in ``train`` and
    ``validation``.
    """

    epoch: int
    learning_rate: float
    train: Terms
    validation: Terms


@dataclass(slots=True)
class History:
    """The completed epochs, and the one with the lowest validation loss, whose weights were kept."""

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = -1
    stopped_because: str = ""


class NonFiniteLossError(ArithmeticError):
    """A loss term became infinite or NaN."""


def fit(
    model: nn.Module,
    loss: Callable[[Rows], Mapping[str, Tensor]],
    batches: MiniBatches,
    held_out: Sequence[Rows],
    *,
    settings: Settings,
    validation_loss: Callable[[Rows], Mapping[str, Tensor]] | None = None,
    after_step: Callable[[], None] | None = None,
    after_epoch: Callable[[Epoch], None] | None = None,
) -> History:
    """Train until patience or epochs run out, and leave the best weights in the model.

    ``loss`` maps rows to terms, of which ``"total"`` is minimised; ``validation_loss``, by default the same,
    selects the epoch on ``held_out``. An exception that ``after_step`` or ``after_epoch`` raises ends the
    training.
    """
    history, best_loss, best_state = History(), math.inf, None
    optimizer = _adam(model, settings)
    for epoch in range(settings.max_epochs):
        rate = settings.learning_rate * learning_rate_factor(epoch, settings=settings)
        for group in optimizer.param_groups:
            group["lr"] = rate
        try:
            train_terms = _train_epoch(model, loss, batches, optimizer, after_step=after_step)
            validation_terms = _validate(model, validation_loss or loss, held_out)
        except NonFiniteLossError as error:
            history.stopped_because = f"the {error} is not finite in epoch {epoch}"
            _report_non_finite(history)
            break
        done = Epoch(epoch=epoch, learning_rate=rate, train=train_terms, validation=validation_terms)
        history.epochs.append(done)
        if after_epoch is not None:
            after_epoch(done)
        if validation_terms["total"] < best_loss:
            best_loss, history.best_epoch = validation_terms["total"], epoch
            best_state = copy.deepcopy(model.state_dict())
        elif epoch - history.best_epoch >= settings.patience:
            history.stopped_because = f"no better validation loss in {settings.patience} epochs"
            break
    else:
        history.stopped_because = f"all {settings.max_epochs} epochs done"
    assert best_state is not None  # _report_non_finite raises if the first epoch failed
    model.load_state_dict(best_state)
    model.eval()
    return history


def learning_rate_factor(epoch: int, *, settings: Settings) -> float:
    """Return the factor of the learning rate in an epoch: linear warm-up, then half a cosine.

    Examples
    --------
    >>> from cellular_bench.methods.cellular.settings import PAPER
    >>> learning_rate_factor(0, settings=PAPER)
    0.0
    """
    cosine = 0.5 * (1 + math.cos(math.pi * epoch / settings.max_epochs))
    if settings.warmup_from_zero:
        rise = epoch / settings.warmup_epochs
    else:
        rise = (epoch + 1) / (settings.warmup_epochs + 1)
    return cosine * min(1.0, rise)


def _adam(model: nn.Module, settings: Settings) -> torch.optim.Adam:
    # Fused: one pass over the parameters instead of a dozen, with the same result up to rounding.
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in model.parameters())
    return torch.optim.Adam(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=fused
    )


def _train_epoch(
    model: nn.Module,
    loss: Callable[[Rows], Mapping[str, Tensor]],
    batches: MiniBatches,
    optimizer: torch.optim.Optimizer,
    *,
    after_step: Callable[[], None] | None,
) -> Terms:
    model.train()
    sums, n_steps = dict[str, float](), 0
    for rows in batches:
        terms = loss(rows)
        _add_finite(sums, terms)
        optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if after_step is not None:
            with torch.no_grad():
                after_step()
        n_steps += 1
    return {name: total / n_steps for name, total in sums.items()}


def _validate(
    model: nn.Module, loss: Callable[[Rows], Mapping[str, Tensor]], held_out: Sequence[Rows]
) -> Terms:
    model.eval()
    sums = dict[str, float]()
    with torch.no_grad():
        for rows in held_out:
            _add_finite(sums, loss(rows))
    return {name: total / len(held_out) for name, total in sums.items()}


def _add_finite(sums: dict[str, float], terms: Mapping[str, Tensor]) -> None:
    for name, term in terms.items():
        value = term.item()
        if not math.isfinite(value):
            raise NonFiniteLossError(f"{name} term" if name != "total" else "total loss")
        sums[name] = sums.get(name, 0.0) + value


def _report_non_finite(history: History) -> None:
    """Warn if an earlier epoch can be kept, otherwise raise."""
    if history.best_epoch < 0:
        raise NotApplicableError(
            f"cellular: training failed: {history.stopped_because}, before any epoch was complete. "
            "Check the scale of X (expected log-normalised values) or lower learning_rate."
        )
    warnings.warn(
        f"cellular: training stopped: {history.stopped_because}; the weights of epoch "
        f"{history.best_epoch} are kept.",
        RuntimeWarning,
        stacklevel=2,
    )
