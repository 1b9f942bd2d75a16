"""CellHint: types are harmonised across batches, and neighbours searched among matching types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellular_bench.core.types import Graph, MethodSpec
from cellular_bench.environments import run_inside
from cellular_bench.methods._annotators import TransductiveAnnotator

if TYPE_CHECKING:
    from anndata import AnnData


class CellHint(TransductiveAnnotator):
    """CellHint (``cellhint``): a graph of nearest cells of the same or similar types in every batch.

    The labels of the training batches are harmonised: types of two batches are matched, split or kept apart
    by the distances of cells to types. The library then links cells whose types are known. Here the
    harmonised type of a query cell is predicted by the vote of its nearest training cells, so that labels of
    the query are not read; the program works in :meth:`embed`. There is no embedding, so metrics of
    coordinates are undefined and the method has no overall score.

    Parameters
    ----------
    n_components
        Number of principal components of all cells together, in which distances are measured.
    n_meta_neighbors
        Number of types in each batch, the own one included, among whose cells neighbours are searched.
    n_voters
        Number of training cells that vote on the type of a query cell.
    seed
        Seed of the principal components, and of the batches that give one neighbour more.

    Raises
    ------
    NotApplicableError
        If the training cells have one label, or a batch of the query has fewer than 11 cells.
    """

    spec = MethodSpec(
        method_id="cellhint",
        name="CellHint (predicted labels)",
        tasks=("integration",),
        description="Graph of the nearest cells of matching types in every batch; no coordinates.",
        labels="train",
        inductive=True,
        doi="10.1016/j.cell.2023.11.026",
        url="https://github.com/Teichlab/cellhint",
        license="MIT",
        environment="cellhint",
        program="cellhint.py",
    )

    def __init__(
        self, *, n_components: int = 50, n_meta_neighbors: int = 3, n_voters: int = 15, seed: int = 0
    ) -> None:
        super().__init__()
        self.seed = seed
        self._params: dict[str, Any] = {
            "n_components": n_components,
            "n_meta_neighbors": n_meta_neighbors,
            "n_voters": n_voters,
        }

    def embed(self, query: AnnData) -> Graph:
        """Return the graph of the query: UMAP weights and distances."""
        train = self.training_cells(query)
        outputs = run_inside(self.spec, train=train, query=query, seed=self.seed, params=self._params)
        assert outputs.graph is not None  # the program returns it
        return Graph(connectivities=outputs.graph, distances=outputs.graph_distances)
