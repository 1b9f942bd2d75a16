"""Names for data sets with the same ``dataset_id``, such as a subsample and the whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from cellular_bench.benchmark.schema.records import DatasetIdentity

#: A ``dataset_id`` and the digest of its contents.
Version = tuple[str, str]

_COUNTS: Mapping[tuple[str, str], Callable[[DatasetIdentity], int]] = {
    ("cell", "cells"): lambda data: data.n_obs,
    ("gene", "genes"): lambda data: data.n_vars,
    ("label", "labels"): lambda data: data.n_labels,
    ("batch", "batches"): lambda data: data.n_batches,
}


def version_names(datasets: Iterable[DatasetIdentity]) -> dict[Version, str]:
    """Return what distinguishes each data set from others of its name, by name and digest.

    Empty if the name has one content only; else the counts that distinguish the contents, such as ``"300
    cells"``, or digits of the digest if all counts are the same.
    """
    by_name: dict[str, dict[str, DatasetIdentity]] = defaultdict(dict)
    for data in datasets:
        by_name[data.dataset_id][data.digest] = data
    return {
        (name, digest): words
        for name, contents in by_name.items()
        for digest, words in zip(contents, _described(list(contents.values())), strict=True)
    }


def versioned(name: str, version: str) -> str:
    """Write a name with what :func:`version_names` says of it.

    Examples
    --------
    >>> versioned("my.h5ad", "300 cells"), versioned("my.h5ad", "")
    ('my.h5ad, 300 cells', 'my.h5ad')
    """
    return f"{name}, {version}" if version else name


def _described(versions: Sequence[DatasetIdentity]) -> list[str]:
    """Describe each of the versions by as few counts as distinguish all of them."""
    words: list[tuple[str, ...]] = [()] * len(versions)
    for nouns, count in _COUNTS.items():
        numbers = [count(data) for data in versions]
        if len(set(words)) == len(versions):
            break
        if len(set(numbers)) > 1 and all(numbers):  # a count of zero was not stated
            words = [(*said, f"{n:,} {nouns[n > 1]}") for said, n in zip(words, numbers, strict=True)]
    if len(set(words)) < len(versions):
        words = [(*said, f"digest {data.digest[:10]}") for said, data in zip(words, versions, strict=True)]
    return [", ".join(said) for said in words]
