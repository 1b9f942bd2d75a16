"""Threefry-2x32, the counter-based generator of JAX, for draws equal to those of scib-metrics.

The result of k-means with one start depends on its draws; with the same draws, scores can be compared. A key
is two 32-bit words, a draw is the encryption of a counter by the key: there is no state.

References
----------
Salmon, J. K. et al. Parallel random numbers: as easy as 1, 2, 3 (2011). doi:10.1145/2063384.2063405
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellular_bench.metrics.inputs import Ints

Words = NDArray[np.uint32]
Singles = NDArray[np.float32]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_MANTISSA_BITS = 23


def key_of(seed: int) -> Words:
    """Return the key of a seed below 2**64."""
    return np.array([seed >> 32, seed & 0xFFFFFFFF], dtype=np.uint32)


def _encrypt(key: Words, n: int) -> tuple[Words, Words]:
    """Encrypt the counters 0 to n - 1 with twenty rounds."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    with np.errstate(over="ignore"):  # 32-bit sums wrap around
        first = np.zeros(n, dtype=np.uint32) + keys[0]
        second = np.arange(n, dtype=np.uint32) + keys[1]
        for block in range(5):
            for turn in _ROTATIONS[block % 2]:
                first = first + second
                second = (second << np.uint32(turn)) | (second >> np.uint32(32 - turn))
                second = second ^ first
            first = first + keys[(block + 1) % 3]
            second = second + keys[(block + 2) % 3] + np.uint32(block + 1)
    return first, second


def split(key: Words, n: int = 2) -> list[Words]:
    """Return n independent keys.

    Examples
    --------
    >>> [int(word) for word in split(key_of(0))[0]]
    [1797259609, 2579123966]
    """
    return list(np.stack(_encrypt(key, n), axis=1))


def bits(key: Words, n: int) -> Words:
    """Return n random words."""
    first, second = _encrypt(key, n)
    return first ^ second


def permutation(key: Words, n: int) -> Ints:
    """Return the numbers below n in random order, by sorting random words."""
    order = np.arange(n)
    for _ in range(int(np.ceil(3 * np.log(max(1, n)) / np.log(2**32 - 1)))):
        key, subkey = split(key)
        order = order[np.argsort(bits(subkey, n), kind="stable")]
    return order


def _uniform(key: Words, n: int) -> Singles:
    tiny, one = np.finfo(np.float32).tiny, np.float32(1)
    mantissa = bits(key, n) >> np.uint32(32 - _MANTISSA_BITS)
    draws: Singles = np.maximum((mantissa | one.view(np.uint32)).view(np.float32) - one, tiny)
    return draws


def weighted_sample(key: Words, weights: Singles, n: int) -> Ints:
    """Draw n different positions with given probabilities (the largest log-weights plus Gumbel noise)."""
    with np.errstate(divide="ignore"):  # log(0) = -inf: after all others
        noisy = -np.log(-np.log(_uniform(key, len(weights)))) + np.log(weights)
    return np.argsort(-noisy, kind="stable")[:n]
