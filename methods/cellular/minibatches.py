"""Inner validation split, mini-batches, and embedding of cells in chunks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import nn

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.methods._inputs import dense_rows
from cellular_bench.methods.cellular.centroids import Codes

Rows = NDArray[np.int64]
#: Density times number of threads below which sparse products are faster than dense ones.
SPARSE_BELOW = 0.25


def inner_split(label: Codes, *, n_folds: int, seed: int) -> tuple[Rows, Rows]:
    """Return the positions of training cells, and of validation cells, which select the epoch.

    The validation cells are the first fold of a stratified split, with fewer folds if no type has that many
    cells. A type too small to be in both parts is used for training only.
    """
    from sklearn.model_selection import StratifiedKFold

    largest = int(np.bincount(label).max())
    if largest < 2:
        raise NotApplicableError("cellular: every cell type has a single cell; none can be held out.")
    folds = StratifiedKFold(min(n_folds, largest), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Types with fewer cells than folds are handled below.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        train, validation = next(folds.split(np.zeros(len(label)), label))
    in_both = np.isin(label[validation], label[train])
    return np.sort(np.append(train, validation[~in_both])), validation[in_both]


class MiniBatches:
    """Mini-batches of equal size, in a new random order in each iteration; the remainder is left out.

    Fewer rows than ``batch_size`` form one mini-batch.
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


def full_chunks(rows: Rows, *, batch_size: int) -> list[Rows]:
    """Return rows in their order, in chunks of ``batch_size``; the remainder is left out.

    Fewer rows than ``batch_size`` form one chunk.

    Examples
    --------
    >>> [len(chunk) for chunk in full_chunks(np.arange(10), batch_size=4)]
    [4, 4]
    """
    size = min(batch_size, len(rows))
    return [rows[start : start + size] for start in range(0, len(rows) - size + 1, size)]


def even_chunks(rows: Rows, *, batch_size: int, seed: int) -> list[Rows]:
    """Return all rows in random order, in chunks of nearly equal size, at most ``batch_size``.

    Examples
    --------
    >>> [len(chunk) for chunk in even_chunks(np.arange(10), batch_size=4, seed=0)]
    [4, 3, 3]
    """
    order = np.random.default_rng(seed).permutation(rows)
    return np.array_split(order, math.ceil(len(rows) / batch_size))


def sparse_pays(X: Any, device: torch.device) -> bool:
    """Return whether the encoder is faster if the mini-batches of a matrix stay sparse.

    The cost of sparse products is proportional to the number of values, but they use one thread of the CPU;
    dense products use all threads.
    """
    if not sparse.issparse(X) or device.type != "cpu":
        return False
    density = X.nnz / max(1, X.shape[0] * X.shape[1])
    return bool(density * torch.get_num_threads() < SPARSE_BELOW)


def select_rows(X: Any, rows: Rows, *, device: torch.device, keep_sparse: bool) -> Any:
    """Return selected rows of a sparse or dense matrix: as csr, or as a float32 tensor."""
    return X[rows] if keep_sparse else dense_rows(X, rows, device=device)


def embed_rows(encoder: nn.Module, X: Any, *, device: torch.device, chunk: int = 1024) -> NDArray[np.float32]:
    """Return the embedding of every row, (n_obs, n_latent), a chunk of cells at a time."""
    encoder.eval()
    keep_sparse = sparse_pays(X, device)
    parts = []
    with torch.inference_mode():
        for start in range(0, X.shape[0], chunk):
            rows = np.arange(start, min(start + chunk, X.shape[0]))
            cells = select_rows(X, rows, device=device, keep_sparse=keep_sparse)
            parts.append(encoder(cells).cpu().numpy())
    return np.concatenate(parts).astype(np.float32, copy=False)
