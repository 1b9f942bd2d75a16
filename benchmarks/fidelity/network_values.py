"""The rule by which small networks get their weights and inputs, and how their outputs are written.

It needs numpy and torch alone: scripts that run the originals import it in other environments.
"""

import csv
import gzip
import io
import zlib
from pathlib import Path

import numpy as np
import torch

OUTPUTS = Path(__file__).parents[2] / "tests" / "data" / "fidelity"


def drawn(name: str, shape: tuple) -> np.ndarray:
    """Return values that depend on a name and a shape: variances from .5 to 1.5, others from -.3 to .3."""
    low, high = (0.5, 1.5) if name.endswith("var") else (-0.3, 0.3)
    generator = np.random.RandomState(zlib.crc32(name.encode()))  # the same in every version
    return generator.uniform(low, high, shape)


def expression(n_obs: int, n_vars: int) -> np.ndarray:
    """Return values from 0 to 3, (n_obs, n_vars)."""
    return np.random.RandomState(0).uniform(0, 3, (n_obs, n_vars))


def fill(network: torch.nn.Module) -> None:
    """Give every weight and moving average of a network, except masks, the values of its name."""
    for name, value in network.state_dict().items():
        if value.dtype.is_floating_point and not name.endswith("mask"):
            value.copy_(torch.from_numpy(drawn(name, tuple(value.shape))))


def write(name: str, outputs: dict) -> None:
    """Write arrays as rows of output, cell, column, value."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["output", "cell", "column", "value"])
    for output, values in outputs.items():
        for (cell, column), value in np.ndenumerate(np.asarray(values, dtype=np.float64)):
            rows.writerow([output, cell, column, f"{value:.9g}"])
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(OUTPUTS / f"{name}.csv.gz", "wb", mtime=0) as file:
        file.write(text.getvalue().encode())
