"""scVI and scANVI: variational autoencoders of counts, conditioned on the batch (and the labels)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.keys import BATCH, LABEL
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._inputs import batches_of, require_fitted, require_labels
from cellular_bench.methods._predictions import most_probable
from cellular_bench.methods._scvi import VariationalIntegrator, bare, split_options

if TYPE_CHECKING:
    from anndata import AnnData

#: Label of unlabelled cells. A real label of this name would be treated as unlabelled.
UNLABELLED = "__unlabelled__"
#: Settings that the authors of scArches recommend for models that are later extended to a query.
FOR_SURGERY: dict[str, Any] = {
    "use_layer_norm": "both",
    "use_batch_norm": "none",
    "encode_covariates": True,
    "dropout_rate": 0.2,
}


class SCVI(VariationalIntegrator):
    """scVI: the decoder is conditioned on the batch, so that the latent space need not encode it.

    The encoder reads only counts, so cells of a batch that was not in training are embedded like any
    others. The defaults are the library's recommendation for integration and the settings of the CELLULAR
    study.

    Parameters
    ----------
    n_latent
        Number of dimensions of the embedding.
    n_layers
        Number of hidden layers of encoder and decoder.
    gene_likelihood
        ``"nb"``, ``"zinb"`` or ``"poisson"``.
    max_epochs
        Number of passes over the training cells; None for the library's rule: 400 up to 20,000 cells,
        fewer above. ``"converged"``: at most that many, until the loss on held-out cells has converged.
    accelerator
        Lightning accelerator used for training.
    seed
        Seed of weights, mini-batches and the split for the library's validation loss.

    Raises
    ------
    NotApplicableError
        If the data have no counts.
    """

    spec = MethodSpec(
        method_id="scvi",
        name="scVI",
        tasks=("integration",),
        description="Variational autoencoder of counts whose decoder is conditioned on the batch.",
        reads="counts",
        inductive=True,
        doi="10.1038/s41592-018-0229-2",
        url="https://scvi-tools.org",
        license="BSD-3-Clause",
        requires=("scvi",),
        check_params={"max_epochs": 5},
        warm_up=240,
    )
    #: Further arguments of the model.
    architecture: dict[str, Any] = {}  # noqa: RUF012 - read only

    def __init__(
        self,
        *,
        n_latent: int = 30,
        n_layers: int = 2,
        gene_likelihood: str = "nb",
        max_epochs: int | str | None = None,
        accelerator: str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(max_epochs=max_epochs, accelerator=accelerator, seed=seed)
        self.n_latent = n_latent
        self.n_layers = n_layers
        self.gene_likelihood = gene_likelihood

    def build(self, data: AnnData) -> Any:
        """Register the data and return an untrained scVI model."""
        import scvi

        scvi.model.SCVI.setup_anndata(data, batch_key=BATCH)
        return scvi.model.SCVI(
            data,
            n_latent=self.n_latent,
            n_layers=self.n_layers,
            gene_likelihood=self.gene_likelihood,
            **self.architecture,
        )


class SCANVI(SCVI):
    """scANVI: scVI, trained further together with a classifier of labels in its latent space.

    Probabilities are those of the classifier; novelty is 1 - the highest one. As in the CELLULAR study, all
    training cells are labelled and training does not see the query.

    Parameters
    ----------
    n_latent, n_layers, gene_likelihood, max_epochs, accelerator, seed
        As for :class:`SCVI`, the first stage of training.
    label_epochs
        Number of passes over the training cells with their labels.
    n_samples_per_label
        Maximum number of cells per label that the classifier learns from in each epoch.

    Raises
    ------
    NotApplicableError
        If the data have no counts, or only one label.
    """

    spec = replace(
        SCVI.spec,
        method_id="scanvi",
        name="scANVI",
        tasks=("integration", "annotation", "novelty"),
        description="scVI trained further with the labels of the training cells and a classifier.",
        labels="train",
        doi="10.15252/msb.20209620",
        check_params={"max_epochs": 10, "label_epochs": 10},
    )

    def __init__(
        self,
        *,
        n_latent: int = 30,
        n_layers: int = 2,
        gene_likelihood: str = "nb",
        max_epochs: int | str | None = None,
        label_epochs: int = 20,
        n_samples_per_label: int = 100,
        accelerator: str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(
            n_latent=n_latent,
            n_layers=n_layers,
            gene_likelihood=gene_likelihood,
            max_epochs=max_epochs,
            accelerator=accelerator,
            seed=seed,
        )
        self.label_epochs = label_epochs
        self.n_samples_per_label = n_samples_per_label

    def fit(self, train: AnnData) -> Self:
        """Train scVI, then scANVI with labels."""
        label = require_labels(train, self.spec.method_id)
        data = self.data(train, label=label)
        with self.session():
            import scvi

            unsupervised = self.trained(self.build(data), data.n_obs)
            model = scvi.model.SCANVI.from_scvi_model(unsupervised, UNLABELLED, labels_key=LABEL)
            per_label = self.n_samples_per_label
            split = split_options(data.n_obs, seed=self.seed, label=label, per_label=per_label)
            model.train(self.label_epochs, n_samples_per_label=per_label, **self.options, **split)
        self._model, self._genes = model, list(train.var_names)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label of each cell by the classifier."""
        model, data = self.model_for(query)
        with self.session():
            probability = model.predict(data, soft=True)
        return most_probable(probability.to_numpy(), probability.columns.tolist())

    def no_labels(self, query: AnnData) -> NDArray[np.str_]:
        """Return the name of unlabelled cells, (n_obs,)."""
        return np.full(query.n_obs, UNLABELLED)


class _Surgery(VariationalIntegrator):
    """Apply a model that was trained further for the batches of the query."""

    query_epochs: int

    def model_for(self, query: AnnData) -> tuple[Any, AnnData]:
        """Add weights for the query's batches and train them; return the model and the cells."""
        require_fitted(query, self._genes, self.spec.method_id)
        data = bare(self.matrix(query), query, batch=batches_of(query), label=self.no_labels(query))
        with self.session():
            model = type(self._model).load_query_data(data, self._model, accelerator=self.accelerator)
            split = split_options(data.n_obs, seed=self.seed)
            # Weight decay would also shrink the weights that must not change.
            no_decay = {"weight_decay": 0.0}
            model.train(self.query_epochs, plan_kwargs=no_decay, **self.options, **split)
        return model, data


class SCVISurgery(_Surgery, SCVI):
    """scVI with architectural surgery (scArches): extended to the query, with all other weights frozen.

    The encoder of this model reads the batch. For a query, weights of its batches are added and trained,
    while all others stay frozen. This training sees the cells of the query (not their labels), so the
    embedding of a cell depends on the other cells of the query.

    Parameters
    ----------
    max_epochs, accelerator, seed
        As for :class:`SCVI`, whose other parameters keep their defaults.
    query_epochs
        Number of passes over the cells of the query.
    """

    spec = replace(
        SCVI.spec,
        method_id="scvi_surgery",
        name="scVI (scArches surgery)",
        description="scVI whose weights for the query's batches are trained on the query.",
        variant_of="scvi",
        doi="10.1038/s41587-021-01001-7",
        check_params={"max_epochs": 5, "query_epochs": 3},
        expected_failed_checks={"cell_order": "training on the query draws mini-batches by position"},
    )
    architecture = FOR_SURGERY

    def __init__(
        self,
        *,
        max_epochs: int | str | None = None,
        query_epochs: int = 200,
        accelerator: str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(max_epochs=max_epochs, accelerator=accelerator, seed=seed)
        self.query_epochs = query_epochs


class SCANVISurgery(_Surgery, SCANVI):
    """scANVI with architectural surgery (scArches): as :class:`SCVISurgery`, with labels of training cells.

    Parameters
    ----------
    max_epochs, label_epochs, accelerator, seed
        As for :class:`SCANVI`, whose other parameters keep their defaults.
    query_epochs
        Number of passes over the cells of the query, which are treated as unlabelled.
    """

    spec = replace(
        SCANVI.spec,
        method_id="scanvi_surgery",
        name="scANVI (scArches surgery)",
        description="scANVI whose weights for the query's batches are trained on the unlabelled query.",
        variant_of="scanvi",
        doi="10.1038/s41587-021-01001-7",
        check_params={"max_epochs": 10, "label_epochs": 10, "query_epochs": 3},
        expected_failed_checks=SCVISurgery.spec.expected_failed_checks,
    )
    architecture = FOR_SURGERY

    def __init__(
        self,
        *,
        max_epochs: int | str | None = None,
        label_epochs: int = 20,
        query_epochs: int = 100,
        accelerator: str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(max_epochs=max_epochs, label_epochs=label_epochs, accelerator=accelerator, seed=seed)
        self.query_epochs = query_epochs
