"""Agreement of clusters and labels, and PCR comparison, as the original scib defines them.

They cluster at twice as many resolutions, each until nothing changes. This takes several times as long as all
other metrics and gives nearly the same values, so they are computed only on request.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from cellular_bench.metrics.embedding.clusterings import (
    adjusted_rand_index,
    closest,
    communities,
    normalized_mutual_information,
)
from cellular_bench.metrics.embedding.regression import pcr_ratio
from cellular_bench.metrics.inputs import Ints, several
from cellular_bench.metrics.spec import metric

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Resolutions of scib; the one with the highest NMI with the labels is used.
RESOLUTIONS = tuple(step / 10 for step in range(1, 21))
SCIB = "10.1038/s41592-021-01336-8"
#: Leiden runs until an iteration changes nothing.
UNTIL_STABLE = -1
_BEST = "of labels and Leiden communities, at the best of 20 resolutions from 0.1 to 2 (as scib)."


def scib_communities(
    graph: csr_matrix, *, cell_ranks: Ints | None = None, n_jobs: int = 1
) -> tuple[Ints, ...]:
    """Return the communities of a symmetric weighted graph at each of :data:`RESOLUTIONS`, (n_obs,) each."""
    return communities(
        graph, cell_ranks=cell_ranks, resolutions=RESOLUTIONS, n_iterations=UNTIL_STABLE, n_jobs=n_jobs
    )


@metric(
    metric_id="nmi_scib",
    name="Leiden NMI (scib)",
    aspect="bio_conservation",
    definition=f"NMI {_BEST}",
    in_overall=False,
    on_request=True,
    doi=SCIB,
    version=2,
)
def nmi_scib(graph: csr_matrix, label: ArrayLike, *, scib_clusters: tuple[Ints, ...] | None = None) -> float:
    """Mutual information of labels and communities of a graph, 0 to 1, at the best of 20 resolutions.

    Undefined if there is only one label.

    Notes
    -----
    Formula: as leiden_nmi, with resolutions 0.1, 0.2 ... 2, and Leiden until an iteration changes nothing.

    Fooled by: the same as leiden_nmi; twice as many resolutions to choose from flatter it slightly more.

    Examples
    --------
    >>> import numpy as np
    >>> graph = np.kron(np.eye(2), np.ones((3, 3)))
    >>> round(nmi_scib(graph, ["a"] * 3 + ["b"] * 3), 6)
    1.0
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
    version=2,
)
def ari_scib(graph: csr_matrix, label: ArrayLike, *, scib_clusters: tuple[Ints, ...] | None = None) -> float:
    """Agreement on pairs of cells of the labels and the communities with the best NMI, 0 to 1.

    Undefined as :func:`nmi_scib`.

    Notes
    -----
    Formula: max(0, (agreeing pairs - expected) / (largest possible - expected)), for the communities of
    nmi_scib.

    Fooled by: the same as leiden_ari.

    Examples
    --------
    >>> import numpy as np
    >>> graph = np.kron(np.eye(2), np.ones((3, 3)))
    >>> round(ari_scib(graph, ["a"] * 3 + ["b"] * 3), 6)
    1.0
    """
    return max(0.0, adjusted_rand_index(*_best(graph, label, scib_clusters)))


def _best(graph: csr_matrix, label: ArrayLike, clusters: tuple[Ints, ...] | None) -> tuple[Ints, Ints]:
    _, codes = several(label, "label", n_obs=graph.shape[0])
    return codes, closest(scib_communities(graph) if clusters is None else clusters, codes)


@metric(
    metric_id="pcr_scib",
    name="PCR comparison (scib)",
    aspect="batch_correction",
    definition="As pcr_comparison, compared with principal components of all genes (as scib).",
    in_overall=False,
    on_request=True,
    doi=SCIB,
)
def pcr_scib(X_pre_all: ArrayLike, X_emb: ArrayLike, batch: ArrayLike) -> float:
    """Relative decrease of the variance between batches, compared with all genes before integration, 0 to 1.

    As :func:`~cellular_bench.metrics.pcr_comparison`, with two differences: ``X_pre_all`` are principal
    components of all genes instead of the genes that the method used, and the share that batches explain
    before integration may be as small as by chance. Undefined if there is only one batch, an embedding is not
    usable, or batches explain nothing before integration.

    Notes
    -----
    Formula: as pcr_comparison, R2 before of 50 principal components of all genes, however small.

    Fooled by: the same as pcr_comparison. If batches explain no more than chance before integration, it is a
    ratio of noise. Components of all genes hold less of the difference between batches than those of variable
    genes, so that values are lower.

    Examples
    --------
    >>> before, after = [[0.0], [1.0], [2.0], [3.0]], [[0.0], [1.0], [0.0], [1.0]]
    >>> pcr_scib(before, after, ["x", "x", "y", "y"])
    1.0
    """
    return pcr_ratio(X_pre_all, X_emb, batch)
