"""Batch removal in the latent space: alignment of the means of each type across batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Strings = NDArray[np.str_]
Floats = NDArray[np.floating[Any]]
#: Vector that is added to cells of each (type, batch).
Shifts = Mapping[tuple[str, str], Floats]


def shifts_to_reference(Z: Floats, label: Strings, batch: Strings) -> Shifts:
    """Return the shifts that move the mean of every type in every batch onto its mean in a reference batch.

    The reference batch of a type is the one with most of its cells; ties go to the first by name.

    Examples
    --------
    >>> Z = np.array([[0.0], [2.0], [7.0]])
    >>> shifts = shifts_to_reference(Z, np.array(["T", "T", "T"]), np.array(["a", "a", "b"]))
    >>> shifts["T", "b"].tolist()
    [-6.0]
    """
    shifts: dict[tuple[str, str], Floats] = {}
    for name in np.unique(label):
        of_type = label == name
        batches, sizes = np.unique(batch[of_type], return_counts=True)
        means = {str(b): Z[of_type & (batch == b)].mean(axis=0) for b in batches}
        reference = means[str(batches[sizes.argmax()])]
        shifts |= {(str(name), b): reference - mean for b, mean in means.items()}
    return shifts


def shifted(Z: Floats, label: Strings, batch: Strings, shifts: Shifts) -> Floats:
    """Add to every cell the shift of its type and batch; cells without one are not moved."""
    zero = np.zeros(Z.shape[1], dtype=Z.dtype)
    return Z + np.stack([shifts.get(key, zero) for key in zip(label.tolist(), batch.tolist(), strict=True)])
