"""Gene sets of the tokens: read from a GMT file, or random."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import NotApplicableError, UserError

#: Sets with fewer genes of the data are left out.
MIN_GENES: Final = 5
#: Share of the genes in a random set.
RANDOM_SHARE: Final = 0.015


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneSets:
    """Names and ascending positions of the genes of all tokens except the token of all genes."""

    names: tuple[str, ...]
    members: tuple[NDArray[np.int64], ...]


def read_gmt(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the genes of each set in a GMT file, which may be gzipped."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"tosica: gene sets {path} cannot be read: {error}.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        name, *rest = line.rstrip().split("\t")
        if len(rest) < 2:
            raise UserError(
                f"tosica: line {number} of {path} has {len(rest) + 1} fields; a line of a GMT file holds "
                "a name, a description and at least one gene, separated by tabs."
            )
        yield name, rest[1:]


def from_gmt(path: Path, genes: Sequence[str], *, max_sets: int, max_set_size: int) -> GeneSets:
    """Select the sets that hold most of the genes, in the order of the file.

    Sets with more than ``max_set_size`` genes in the file, or fewer than 5 of ``genes``, are left out. Ties
    go to the first sets in the file.
    """
    position = {gene: number for number, gene in enumerate(genes)}
    names, members = [], []
    for name, listed in read_gmt(path):
        positions = sorted({position[gene] for gene in listed if gene in position})
        if len(set(listed)) <= max_set_size and len(positions) >= MIN_GENES:
            names.append(name)
            members.append(np.asarray(positions, dtype=np.int64))
    if not names:
        raise NotApplicableError(
            f"tosica: no set in {path} has at most {max_set_size} genes and at least {MIN_GENES} of the "
            f"{len(genes)} genes of the data. Use the same kind of gene names, of the same organism, in both."
        )
    largest = np.argsort([-len(positions) for positions in members], kind="stable")[:max_sets]
    kept = np.sort(largest)
    return GeneSets(names=tuple(names[i] for i in kept), members=tuple(members[i] for i in kept))


def at_random(n_vars: int, *, n_sets: int, seed: int) -> GeneSets:
    """Draw sets to which each gene belongs independently with probability 1.5 %."""
    drawn = np.random.default_rng(seed).random((n_sets, n_vars)) < RANDOM_SHARE
    return GeneSets(
        names=tuple(f"random {number}" for number in range(n_sets)),
        members=tuple(np.flatnonzero(row) for row in drawn),
    )
