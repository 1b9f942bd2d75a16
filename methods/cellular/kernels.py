"""A compiled loop: the product of a sparse and a dense matrix. Import this inside functions only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellular_bench.methods._compiled import reordered


@reordered
def add_product(
    starts: NDArray[np.int32],
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
    B: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Add A @ B to ``out``, with A in csr format: ``starts`` of its rows, ``columns`` and ``values``.

    Four rows of B are added at a time. Memory access dominates the time, and ``out`` is accessed a quarter
    as often as in the loops of scipy and MKL.
    """
    for i in range(len(starts) - 1):
        row = out[i]
        end = starts[i + 1]
        fours = starts[i] + (end - starts[i]) // 4 * 4
        for s in range(starts[i], fours, 4):
            v0, v1, v2, v3 = values[s], values[s + 1], values[s + 2], values[s + 3]
            b0, b1, b2, b3 = B[columns[s]], B[columns[s + 1]], B[columns[s + 2]], B[columns[s + 3]]
            for k in range(len(row)):
                row[k] += (v0 * b0[k] + v1 * b1[k]) + (v2 * b2[k] + v3 * b3[k])
        for s in range(fours, end):
            value, other = values[s], B[columns[s]]
            for k in range(len(row)):
                row[k] += value * other[k]
