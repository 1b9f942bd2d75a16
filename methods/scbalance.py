"""scBalance: a network whose mini-batches hold about as many cells of each label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.environments import run_inside
from cellular_bench.methods._annotators import TransductiveAnnotator
from cellular_bench.methods._predictions import returned_prediction

if TYPE_CHECKING:
    from anndata import AnnData


class ScBalance(TransductiveAnnotator):
    """scBalance (``scBalance``): three hidden layers with dropout, trained on labels drawn equally often.

    Architecture, number of epochs (20) and learning rate are fixed in the library. The program trains in
    :meth:`predict`, on the training cells alone: predictions do not depend on other cells of the query.
    Novelty is 1 - the highest probability; the library rejects no cell.

    Parameters
    ----------
    weighted_sampling
        Whether labels are drawn equally often in each epoch; if not, cells come in a fixed order.
    seed
        Seed of weights, mini-batches and dropout.
    """

    spec = MethodSpec(
        method_id="scbalance",
        name="scBalance",
        tasks=("annotation", "novelty"),
        description="Network with dropout; labels are drawn equally often in training.",
        labels="train",
        inductive=True,
        doi="10.1038/s42003-023-04928-6",
        url="https://github.com/yuqcheng/scBalance",
        license="MIT",
        environment="scbalance",
        program="scbalance.py",
    )

    def __init__(self, *, weighted_sampling: bool = True, seed: int = 0) -> None:
        super().__init__()
        self.weighted_sampling = weighted_sampling
        self.seed = seed

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label of each cell of the query."""
        train = self.training_cells(query)
        params = {"weighted_sampling": self.weighted_sampling}
        outputs = run_inside(self.spec, train=train, query=query, seed=self.seed, params=params)
        return returned_prediction(outputs)
