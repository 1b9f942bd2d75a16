"""The training loop of encoder and classifier: epochs, learning rate, early stopping, history."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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

    The terms of ``train`` and ``validation`` weigh types differently where
    ``Settings.validation_counts_cells`` is set.
    """

    epoch: int
    learning_rate: float
    train: Terms
    validation: Terms


@dataclass(slots=True)
class History:
    """What happened in training.

    Attributes
    ----------
    epochs
        One entry per completed epoch.
    best_epoch
        The epoch whose weights were kept: least total loss on the validation cells.
    stopped_because
        Why training ended, in words.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = -1
    stopped_because: str = ""


class NonFiniteLossError(ArithmeticError):
    """A loss term became infinite or not a number."""


def fit(
    model: nn.Module,
    loss: Callable[[Rows], Mapping[str, Tensor]],
    batches: MiniBatches,
    held_out: Sequence[Rows],
    *,
    settings: Settings,
    learning_rate: float,
    max_epochs: int,
    patience: int,
    validation_loss: Callable[[Rows], Mapping[str, Tensor]] | None = None,
    after_step: Callable[[], None] | None = None,
    after_epoch: Callable[[Epoch], None] | None = None,
) -> History:
    """Train until patience or epochs run out, and leave the best weights in the model."""
    history, best_loss, best_state = History(), math.inf, None
    optimizer = _adam(model, learning_rate=learning_rate, weight_decay=settings.weight_decay)
    for epoch in range(max_epochs):
        rate = learning_rate * learning_rate_factor(epoch, settings=settings, max_epochs=max_epochs)
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
        elif epoch - history.best_epoch >= patience:
            history.stopped_because = f"no better validation loss in {patience} epochs"
            break
    else:
        history.stopped_because = f"all {max_epochs} epochs done"
    assert best_state is not None  # a first epoch without a finite loss has raised
    model.load_state_dict(best_state)
    model.eval()
    return history


def learning_rate_factor(epoch: int, *, settings: Settings, max_epochs: int) -> float:
    """Return the share of the learning rate used in an epoch: half a cosine after a short rise.

    Examples
    --------
    >>> from cellular_bench.methods.cellular.settings import PAPER
    >>> learning_rate_factor(0, settings=PAPER, max_epochs=50)
    0.0
    """
    cosine = 0.5 * (1 + math.cos(math.pi * epoch / max_epochs))
    if settings.warmup_from_zero:
        rise = epoch / settings.warmup_epochs
    else:
        rise = (epoch + 1) / (settings.warmup_epochs + 1)
    return cosine * min(1.0, rise)


@contextmanager
def seeded_torch(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators (initial weights and dropout read them), and restore them after."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _adam(model: nn.Module, *, learning_rate: float, weight_decay: float) -> torch.optim.Adam:
    # One pass over the parameters instead of a dozen; the same numbers to rounding.
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in model.parameters())
    return torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=fused)


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
    """Warn where an earlier epoch can be kept; otherwise there is no model."""
    if history.best_epoch < 0:
        raise NotApplicableError(
            f"cellular: training failed: {history.stopped_because}, before any epoch was complete. "
            "Check the scale of X (log-normalised values are wanted) or lower learning_rate."
        )
    warnings.warn(
        f"cellular: training stopped: {history.stopped_because}; the weights of epoch "
        f"{history.best_epoch} are kept.",
        RuntimeWarning,
        stacklevel=2,
    )
