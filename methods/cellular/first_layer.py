"""The encoder's first layer, for inputs that are mostly zero and need no gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class NormalisedLinear(nn.Module):
    """Layer normalisation and a linear layer, for dense or sparse inputs.

    The inputs are data, whose gradient is not needed. The gradients of the normalisation then follow from
    the gradient of the weights, which saves one of three matrix products of a training step. For sparse
    mini-batches, the cost of the other two is proportional to the number of non-zero values: a normalised
    row is not sparse, but it differs from a scaled sparse row only by a constant.

    Attributes
    ----------
    norm
        Scale and shift of the genes.
    weight
        (n_in, n_out) weights, one row per gene (transposed compared with torch), so that a value of the
        input reads one contiguous row.
    bias
        (n_out,) bias.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_in)
        linear = nn.Linear(n_in, n_out)
        self.weight = nn.Parameter(linear.weight.detach().T.contiguous())
        self.bias = linear.bias

    def forward(self, X: Tensor | csr_matrix) -> Tensor:
        """Return (n_obs, n_out) from data (n_obs, n_in); csr input requires weights on the CPU."""
        norm = self.norm
        if not isinstance(X, Tensor):
            standard: Tensor | _SparseRows = _standardised(X, eps=norm.eps)
        elif X.requires_grad or torch.is_autocast_enabled(X.device.type):
            return functional.linear(norm(X), self.weight.T, self.bias)
        else:
            standard = functional.layer_norm(X, norm.normalized_shape, eps=norm.eps)
        parameters = (norm.weight, norm.bias, self.weight, self.bias)
        result: Tensor = _ScaledLinear.apply(standard, *parameters)  # type: ignore[no-untyped-call]
        return result


class _ScaledLinear(torch.autograd.Function):
    """``(X * scale + shift) @ weight + bias`` without the gradient of X."""

    @staticmethod
    def forward(
        ctx: Any, X: Tensor | _SparseRows, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor
    ) -> Tensor:
        ctx.X = X
        ctx.save_for_backward(scale, shift, weight)
        product = (X * scale) @ weight
        return product.add_(torch.addmv(bias, weight.T, shift))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor, Tensor, Tensor]:
        scale, shift, weight = ctx.saved_tensors
        product = ctx.X.T @ gradient
        total = gradient.sum(dim=0)
        of_scale = (weight * product).sum(dim=1)
        of_weight = product.mul_(scale[:, None]).addr_(shift, total)
        return None, of_scale, weight @ total, of_weight, total


@dataclass(frozen=True, slots=True)
class _SparseRows:
    """The matrix ``values - outer(left, right)`` with sparse ``values``."""

    values: csr_matrix
    left: NDArray[np.float32]
    right: NDArray[np.float32]

    def __mul__(self, scale: Tensor) -> _SparseRows:
        """Multiply columns."""
        factors = scale.detach().numpy()
        values = self.values.copy()
        values.data *= factors[values.indices]
        return _SparseRows(values, self.left, self.right * factors)

    @property
    def T(self) -> _SparseRows:  # noqa: N802 - as tensors call it
        return _SparseRows(self.values.tocsc().T, self.right, self.left)

    def __matmul__(self, B: Tensor) -> Tensor:
        """Return the (n_rows, n_columns) product with a dense matrix."""
        from cellular_bench.methods.cellular.kernels import add_product

        dense = np.ascontiguousarray(B.detach().numpy())
        product = np.multiply.outer(-self.left, self.right @ dense)
        add_product(self.values.indptr, self.values.indices, self.values.data, dense, product)
        return torch.from_numpy(product)


def _standardised(X: csr_matrix, *, eps: float) -> _SparseRows:
    """Standardise each row to mean 0 and variance 1, as layer normalisation does before scale and shift."""
    n_obs, n_vars = X.shape
    rows = np.repeat(np.arange(n_obs), np.diff(X.indptr))
    # float64, because the variance is a difference of larger numbers.
    data = X.data.astype(np.float64)
    mean = np.bincount(rows, data, n_obs) / n_vars
    deviation = np.sqrt(np.bincount(rows, data * data, n_obs) / n_vars - mean**2 + eps)
    values = X.copy()
    values.data = (data / deviation[rows]).astype(np.float32)
    return _SparseRows(values, (mean / deviation).astype(np.float32), np.ones(n_vars, dtype=np.float32))
