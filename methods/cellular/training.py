"""How the encoder and the classifier are trained: one loop for both, and what differs between them."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cellular_bench.benchmark.errors import NotApplicableError
from cellular_bench.methods.cellular.centroids import (
    Codes,
    centroid_distances,
    class_shares,
    inverse_frequency,
)
from cellular_bench.methods.cellular.loss import LossTerms, cellular_loss
from cellular_bench.methods.cellular.model import EncoderWithTemperature, build_classifier, build_encoder
from cellular_bench.methods.cellular.settings import ClassifierSettings, LossWeights, Settings

Terms = Mapping[str, float]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """What the model learns from.

    Attributes
    ----------
    X
        (n_obs, n_vars) log-normalised expression, csr or dense.
    label
        (n_obs,) codes of the cell types, 0 to ``n_labels - 1``.
    batches
        Codes of the batches, one array per batch key.
    """

    X: Any
    label: Codes
    batches: tuple[Codes, ...]
    n_labels: int


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


def train_encoder(
    cells: Cells,
    train: Rows,
    validation: Rows,
    *,
    settings: Settings,
    loss_weights: LossWeights | None = None,
    seed: int = 0,
    device: torch.device,
) -> tuple[EncoderWithTemperature, History]:
    """Train the encoder on some cells, and keep the epoch that is best on others.

    Parameters
    ----------
    cells
        All training cells.
    train, validation
        Rows that are learned from, and rows that choose the epoch.
    settings
        The recipe.
    loss_weights
        What each term counts; None: the study's full loss.
    seed
        Seed of weights, mini-batches and dropout.
    device
        Where the networks live.
    """
    loss = _encoder_loss(cells, train, settings=settings, weights=loss_weights, seed=seed, device=device)
    by_cell = class_shares(cells.label[validation], n_classes=cells.n_labels)
    judged_by = torch.as_tensor(by_cell, dtype=torch.float32, device=device)
    batches = MiniBatches(train, batch_size=settings.batch_size, seed=seed)
    held_out = even_chunks(validation, batch_size=settings.batch_size, seed=seed)
    with seeded_torch(seed, device):
        encoder = build_encoder(cells.X.shape[1], n_latent=settings.n_latent, dropout=settings.dropout)
        model = EncoderWithTemperature(encoder, temperature=settings.temperature).to(device)

        def keep_in_range() -> None:
            model.temperature.clamp_(*settings.temperature_range)

        history = _fit(
            model,
            lambda rows: loss(model, rows)._asdict(),
            batches,
            held_out,
            validation_loss=(
                (lambda rows: loss(model, rows, label_weights=judged_by)._asdict())
                if settings.validation_counts_cells
                else None
            ),
            settings=settings,
            learning_rate=settings.learning_rate,
            max_epochs=settings.max_epochs,
            patience=settings.patience,
            after_step=keep_in_range,
        )
    return model, history


def train_classifier(
    X_emb: NDArray[np.float32],
    label: Codes,
    train: Rows,
    validation: Rows,
    *,
    n_labels: int,
    settings: Settings,
    classifier: ClassifierSettings,
    seed: int = 0,
    device: torch.device,
    after_epoch: Callable[[Epoch], None] | None = None,
) -> tuple[nn.Sequential, History]:
    """Train the classifier on an embedding that stays as it is.

    Parameters are those of :func:`train_encoder`; ``classifier`` holds what tuning varies, and
    ``after_epoch`` hears of every epoch: an exception that it raises ends training.
    """
    embedding = torch.as_tensor(X_emb, device=device)
    target = torch.as_tensor(label, device=device)
    with seeded_torch(seed, device):
        model = build_classifier(
            X_emb.shape[1], n_labels, hidden=classifier.hidden, dropout=classifier.dropout
        ).to(device)

        def loss(rows: Rows) -> dict[str, Tensor]:
            chosen = torch.as_tensor(rows, device=device)
            output = model(embedding[chosen])
            if settings.softmax_before_loss:
                output = output.softmax(dim=1)
            return {"total": functional.cross_entropy(output, target[chosen])}

        history = _fit(
            model,
            loss,
            MiniBatches(train, batch_size=settings.batch_size, seed=seed),
            even_chunks(validation, batch_size=settings.batch_size, seed=seed),
            settings=settings,
            learning_rate=classifier.learning_rate,
            max_epochs=settings.classifier_max_epochs,
            patience=settings.classifier_patience,
            after_epoch=after_epoch,
        )
    return model, history


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


def inner_split(label: Codes, *, n_folds: int, seed: int) -> tuple[Rows, Rows]:
    """Split training cells into those that are learned from and those that choose the epoch.

    The second part is the first fold of a stratified split. A type too small to be in both parts is only
    learned from.

    Parameters
    ----------
    label
        (n_obs,) codes of the types.
    n_folds
        Number of folds; fewer where no type has that many cells.
    seed
        Seed of the split.

    Raises
    ------
    NotApplicableError
        If every type has a single cell: nothing could be held out.
    """
    from sklearn.model_selection import StratifiedKFold

    largest = int(np.bincount(label).max())
    if largest < 2:
        raise NotApplicableError("cellular: every cell type has a single cell; none can be held out.")
    folds = StratifiedKFold(min(n_folds, largest), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Types with fewer cells than folds are dealt with below.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        train, validation = next(folds.split(np.zeros(len(label)), label))
    learned = np.isin(label[validation], label[train])
    return np.sort(np.append(train, validation[~learned])), validation[learned]


class MiniBatches:
    """Rows in a new random order each time, in mini-batches of one size; the rest is left out.

    Fewer rows than the size make one mini-batch of all rows.
    """

    def __init__(self, rows: Rows, *, batch_size: int, seed: int) -> None:
        self._rows = torch.as_tensor(rows)
        self._size = min(batch_size, len(rows))
        self._generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[Rows]:
        order = torch.randperm(len(self._rows), generator=self._generator)
        for chunk in torch.split(self._rows[order], self._size):
            if len(chunk) == self._size:
                yield chunk.numpy()


def even_chunks(rows: Rows, *, batch_size: int, seed: int) -> list[Rows]:
    """Return all rows in random order, in chunks of nearly one size, none above ``batch_size``.

    Examples
    --------
    >>> [len(chunk) for chunk in even_chunks(np.arange(10), batch_size=4, seed=0)]
    [4, 3, 3]
    """
    order = np.random.default_rng(seed).permutation(rows)
    return np.array_split(order, math.ceil(len(rows) / batch_size))


def dense_rows(X: Any, rows: Rows, *, device: torch.device) -> Tensor:
    """Return some rows of a sparse or dense matrix as a float32 tensor."""
    part = X[rows]
    part = part.toarray() if hasattr(part, "toarray") else part
    return torch.as_tensor(np.asarray(part, dtype=np.float32), device=device)


def embed_rows(encoder: nn.Module, X: Any, *, device: torch.device, chunk: int = 1024) -> NDArray[np.float32]:
    """Return the embedding of every row, (n_obs, n_latent), a chunk of cells at a time."""
    encoder.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, X.shape[0], chunk):
            rows = np.arange(start, min(start + chunk, X.shape[0]))
            parts.append(encoder(dense_rows(X, rows, device=device)).cpu().numpy())
    return np.concatenate(parts).astype(np.float32, copy=False)


@contextmanager
def seeded_torch(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators (initial weights and dropout read them), and restore them after."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


class _EncoderLoss(Protocol):
    def __call__(
        self, model: EncoderWithTemperature, rows: Rows, *, label_weights: Tensor = ...
    ) -> LossTerms: ...


def _encoder_loss(
    cells: Cells,
    train: Rows,
    *,
    settings: Settings,
    weights: LossWeights | None,
    seed: int,
    device: torch.device,
) -> _EncoderLoss:
    """Bind what the loss takes from the training cells: class weights and target distances."""

    def tensor(array: NDArray[Any]) -> Tensor:
        dtype = torch.float32 if array.dtype.kind == "f" else torch.int64
        return torch.as_tensor(array, dtype=dtype, device=device)

    label = tensor(cells.label)
    keys = [tensor(key) for key in cells.batches]
    rare_first = tensor(inverse_frequency(cells.label[train], n_classes=cells.n_labels))
    key_weights = [
        tensor(inverse_frequency(key[train], n_classes=int(key.max()) + 1)) for key in cells.batches
    ]
    target = tensor(
        centroid_distances(
            cells.X[train],
            cells.label[train],
            [key[train] for key in cells.batches],
            n_labels=cells.n_labels,
            n_components=settings.n_components,
            seed=seed,
        )
    )

    def loss(model: EncoderWithTemperature, rows: Rows, *, label_weights: Tensor = rare_first) -> LossTerms:
        chosen = torch.as_tensor(rows, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            embedding = model(dense_rows(cells.X, rows, device=device))
        return cellular_loss(
            embedding.float(),
            label[chosen],
            [key[chosen] for key in keys],
            label_weights=label_weights,
            batch_weights=key_weights,
            centroid_distances=target,
            temperature=model.temperature,
            weights=weights,
        )

    return loss


def _fit(
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
