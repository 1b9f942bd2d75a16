"""scNym as its authors distribute it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellular_bench.core.errors import UnknownNameError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.environments import run_inside
from cellular_bench.methods._annotators import TransductiveAnnotator
from cellular_bench.methods._predictions import returned_prediction

if TYPE_CHECKING:
    from anndata import AnnData

#: Configurations of the package: every type of the query is known, or new types are expected.
CONFIGURATIONS = ("no_new_identity", "new_identity_discovery")


class ScNymOriginal(TransductiveAnnotator):
    """scNym 0.3.2, the authors' package, trained on labelled and unlabelled cells.

    The reimplementation :class:`~cellular_bench.methods.scnym.ScNymMixMatch` follows the current package,
    0.4.0, whose second and third hidden layer do not share weights; here they do. Mini-batches are smaller
    than 256 where there are fewer labelled or unlabelled cells, because the package then does not end.

    Parameters
    ----------
    configuration
        ``"no_new_identity"``: all types of the query are known. ``"new_identity_discovery"``: only
        pseudolabels with a probability of 0.9 or more are used.
    n_epochs
        Maximum number of epochs.
    uses_query
        False: the query is not used for training, as in the CELLULAR study.
    seed
        Seed of all random numbers.
    """

    spec = MethodSpec(
        method_id="scnym_original",
        name="scNym 0.3.2, authors' package",
        tasks=("annotation", "novelty"),
        description="The authors' package: trained on labelled and unlabelled cells with a domain adversary.",
        labels="train",
        features="all",
        doi="10.1101/gr.268581.120",
        url="https://github.com/calico/scnym",
        license="Apache-2.0",
        environment="scnym_original",
        program="scnym_original.py",
        variant_of="scnym_mixmatch",
        check_params={"n_epochs": 20},
        expected_failed_checks={
            "cell_order": (
                "It trains on the cells of the query; in another order they form other mini-batches, which "
                "changes probabilities."
            )
        },
    )

    def __init__(
        self,
        *,
        configuration: str = "no_new_identity",
        n_epochs: int = 100,
        uses_query: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if configuration not in CONFIGURATIONS:
            raise UnknownNameError("configuration", configuration, CONFIGURATIONS)
        self.seed = seed
        self._params: dict[str, Any] = {
            "configuration": configuration,
            "n_epochs": n_epochs,
            "uses_query": uses_query,
        }

    def predict(self, query: AnnData) -> Prediction:
        """Train the network on all cells and predict the labels of the query."""
        train = self.training_cells(query)
        outputs = run_inside(self.spec, train=train, query=query, seed=self.seed, params=self._params)
        return returned_prediction(outputs)
