"""Training of encoder and classifier: their data and their losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cellular_bench.methods._session import seeded_torch
from cellular_bench.methods.cellular.centroids import (
    Codes,
    centroid_distances,
    class_shares,
    inverse_frequency,
)
from cellular_bench.methods.cellular.loop import Epoch, History, fit
from cellular_bench.methods.cellular.loss import LossTerms, cellular_loss
from cellular_bench.methods.cellular.minibatches import (
    MiniBatches,
    Rows,
    even_chunks,
    full_chunks,
    select_rows,
    sparse_pays,
)
from cellular_bench.methods.cellular.model import EncoderWithTemperature, build_classifier, build_encoder
from cellular_bench.methods.cellular.settings import ClassifierSettings, LossWeights, Settings
from cellular_bench.methods.cellular.state import Fitted


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Data for training: log-normalised expression, csr or dense; codes of types, and of each batch key."""

    X: Any
    label: Codes
    batches: tuple[Codes, ...]
    n_labels: int


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
    """Train the encoder, and keep the epoch with the lowest loss on the validation cells.

    Without ``loss_weights`` the loss is the full one of the study.
    """
    loss = _encoder_loss(cells, train, settings=settings, weights=loss_weights, seed=seed, device=device)
    shares = class_shares(cells.label[validation], n_classes=cells.n_labels)
    equal_per_cell = torch.as_tensor(shares, dtype=torch.float32, device=device)
    batches = MiniBatches(train, batch_size=settings.batch_size, seed=seed)
    held_out = _held_out(validation, settings=settings, seed=seed)
    with seeded_torch(seed, device):
        encoder = build_encoder(cells.X.shape[1], n_latent=settings.n_latent, dropout=settings.dropout)
        model = EncoderWithTemperature(encoder, temperature=settings.temperature).to(device)

        def keep_in_range() -> None:
            model.temperature.clamp_(*settings.temperature_range)

        history = fit(
            model,
            lambda rows: loss(model, rows)._asdict(),
            batches,
            held_out,
            validation_loss=(
                (lambda rows: loss(model, rows, label_weights=equal_per_cell)._asdict())
                if settings.validation_counts_cells
                else None
            ),
            settings=settings,
            after_step=keep_in_range,
        )
    return model, history


def train_classifier(
    fitted: Fitted,
    *,
    settings: Settings,
    classifier: ClassifierSettings,
    seed: int = 0,
    device: torch.device,
    after_epoch: Callable[[Epoch], None] | None = None,
) -> tuple[nn.Sequential, History]:
    """Train the classifier on the frozen embedding of the training cells.

    An exception that ``after_epoch`` raises ends the training.
    """
    embedding = torch.as_tensor(fitted.train_emb, device=device)
    target = torch.as_tensor(fitted.train_label, device=device)
    n_latent, n_labels = fitted.train_emb.shape[1], len(fitted.labels)
    with seeded_torch(seed, device):
        model = build_classifier(n_latent, n_labels, hidden=classifier.hidden, dropout=classifier.dropout)
        model = model.to(device)

        def loss(rows: Rows) -> dict[str, Tensor]:
            selected = torch.as_tensor(rows, device=device)
            output = model(embedding[selected])
            if settings.softmax_before_loss:
                output = output.softmax(dim=1)
            return {"total": functional.cross_entropy(output, target[selected])}

        history = fit(
            model,
            loss,
            MiniBatches(fitted.train_rows, batch_size=settings.batch_size, seed=seed),
            _held_out(fitted.validation_rows, settings=settings, seed=seed),
            settings=replace(
                settings,
                learning_rate=classifier.learning_rate,
                max_epochs=settings.classifier_max_epochs,
                patience=settings.classifier_patience,
            ),
            after_epoch=after_epoch,
        )
    return model, history


def _held_out(validation: Rows, *, settings: Settings, seed: int) -> list[Rows]:
    if settings.validation_drops_rest:
        return full_chunks(validation, batch_size=settings.batch_size)
    return even_chunks(validation, batch_size=settings.batch_size, seed=seed)


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
    """Return the loss with class weights and target distances computed from the training cells."""

    def tensor(array: NDArray[Any]) -> Tensor:
        dtype = torch.float32 if array.dtype.kind == "f" else torch.int64
        return torch.as_tensor(array, dtype=dtype, device=device)

    label = tensor(cells.label)
    keys = [tensor(key) for key in cells.batches]
    by_frequency = tensor(inverse_frequency(cells.label[train], n_classes=cells.n_labels))
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

    rounded = settings.precision == "bf16"
    keep_sparse = sparse_pays(cells.X, device) and not rounded

    def loss(model: EncoderWithTemperature, rows: Rows, *, label_weights: Tensor = by_frequency) -> LossTerms:
        selected = torch.as_tensor(rows, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=rounded):
            embedding = model(select_rows(cells.X, rows, device=device, keep_sparse=keep_sparse))
        return cellular_loss(
            embedding.float(),
            label[selected],
            [key[selected] for key in keys],
            label_weights=label_weights,
            batch_weights=key_weights,
            centroid_distances=target,
            temperature=model.temperature,
            weights=weights,
        )

    return loss
