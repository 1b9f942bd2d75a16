"""Agreement of clusters and labels, and PCR comparison, as the original scib defines them.

Clusters of twice as many resolutions, each until nothing moves, take several times as long as all of our
own, and nearly the same values come of it. So these metrics are computed on request.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from cellular_bench.metrics.embedding.clusterings import (
    LEIDEN_SEED,
    adjusted_rand_index,
    closest,
    network,
    normalized_mutual_information,
    resolved,
)
from cellular_bench.metrics.embedding.regression import pcr_ratio
from cellular_bench.metrics.inputs import Ints, several
from cellular_bench.metrics.numerics.parallel import share_out
from cellular_bench.metrics.spec import metric

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Resolutions among which scib takes the one closest to the labels.
RESOLUTIONS = tuple(step / 10 for step in range(1, 21))
SCIB = "10.1038/s41592-021-01336-8"
#: Leiden goes on until an iteration changes nothing.
UNTIL_STABLE = -1
_BEST = "of labels and Leiden communities, at the best of 20 resolutions from 0.1 to 2 (as scib)."


def scib_communities(graph: csr_matrix, *, n_jobs: int = 1) -> tuple[Ints, ...]:
    """Return the communities of a symmetric weighted graph at each of :data:`RESOLUTIONS`."""
    find = partial(resolved, network(graph), n_iterations=UNTIL_STABLE, seed=LEIDEN_SEED)
    return tuple(share_out(find, RESOLUTIONS, n_jobs=n_jobs))


@metric(
    metric_id="nmi_scib",
    name="Leiden NMI (scib)",
    aspect="bio_conservation",
    definition=f"NMI {_BEST}",
    in_overall=False,
    on_request=True,
    doi=SCIB,
)
def nmi_scib(graph: csr_matrix, label: ArrayLike, *, scib_clusters: tuple[Ints, ...] | None = None) -> float:
    """How much communities of the 15-neighbour graph tell about the label, at the best of 20 resolutions.

    Parameters
    ----------
    graph
        (n_obs, n_obs) symmetric weights.
    label
        (n_obs,) labels.
    scib_clusters
        What :func:`scib_communities` gives, where it is known already.

    Raises
    ------
    UndefinedError
        If there is one label only.
    """
    return normalized_mutual_information(*_best(graph, label, scib_clusters))


@metric(
    metric_id="ari_scib",
    name="Leiden ARI (scib)",
    aspect="bio_conservation",
    definition=f"ARI {_BEST}",
    in_overall=False,
    on_request=True,
    doi=SCIB,
)
def ari_scib(graph: csr_matrix, label: ArrayLike, *, scib_clusters: tuple[Ints, ...] | None = None) -> float:
    """Agreement on pairs of cells of the labels and the communities whose NMI is best.

    Parameters and errors are those of :func:`nmi_scib`.
    """
    return max(0.0, adjusted_rand_index(*_best(graph, label, scib_clusters)))


def _best(graph: csr_matrix, label: ArrayLike, clusters: tuple[Ints, ...] | None) -> tuple[Ints, Ints]:
    _, codes = several(label, "label", n_obs=graph.shape[0])
    return codes, closest(scib_communities(graph) if clusters is None else clusters, codes)


@metric(
    metric_id="pcr_scib",
    name="PCR comparison (scib)",
    aspect="batch_correction",
    definition="As pcr_comparison, with principal components of all genes as what was before (as scib).",
    in_overall=False,
    on_request=True,
    doi=SCIB,
)
def pcr_scib(X_pre_all: ArrayLike, X_emb: ArrayLike, batch: ArrayLike) -> float:
    """How much less of the variance lies between batches than in all genes before integration, 0 to 1.

    As :func:`~cellular_bench.metrics.pcr_comparison`, but ``X_pre_all`` are principal components of all
    genes, not of those that a method was given, and batches may explain as little before as chance does.

    Raises
    ------
    UndefinedError
        If there is one batch only, an embedding is not usable, or batches explained nothing before.
    """
    return pcr_ratio(X_pre_all, X_emb, batch)
