"""The parts of a fitted model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cellular_bench.methods.cellular.loop import History
from cellular_bench.methods.cellular.model import EncoderWithTemperature
from cellular_bench.methods.cellular.settings import ClassifierSettings


@dataclass(slots=True, kw_only=True)
class Fitted:
    """The trained networks, and data of the training cells that later calls need."""

    #: Names of the encoder's inputs and of the classifier's outputs, in order.
    genes: tuple[str, ...]
    labels: tuple[str, ...]
    encoder: EncoderWithTemperature
    encoder_history: History
    #: Embedding and integer type of every cell given to ``fit``.
    train_emb: NDArray[np.float32]
    train_label: NDArray[np.int64]
    #: Positions of the cells used for training, and of those that selected the epoch.
    train_rows: NDArray[np.int64]
    validation_rows: NDArray[np.int64]
    #: None until it is first needed.
    classifier: nn.Sequential | None = None
    classifier_history: History | None = None
    classifier_settings: ClassifierSettings | None = None

    def logits(self, X_emb: NDArray[np.float32], *, device: torch.device) -> NDArray[np.float32]:
        """Return the classifier's output for an embedding, (n_obs, n_labels)."""
        assert self.classifier is not None
        with torch.inference_mode():
            output: NDArray[np.float32] = self.classifier(torch.as_tensor(X_emb, device=device)).cpu().numpy()
        return output
