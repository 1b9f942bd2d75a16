"""scVI and scANVI: variational autoencoders of counts that are told the batch, and the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.keys import BATCH, LABEL
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._scvi import VariationalIntegrator, bare, split_options
from cellular_bench.methods._support import batches_of, labels_of, most_probable, require_labels

if TYPE_CHECKING:
    from anndata import AnnData

#: Label of cells whose label is not shown. A class of this name would be taken for unlabelled cells.
UNLABELLED = "__unlabelled__"
#: What the authors of scArches build models with that will be trained on for a query.
FOR_SURGERY: dict[str, Any] = {
    "use_layer_norm": "both",
    "use_batch_norm": "none",
    "encode_covariates": True,
    "dropout_rate": 0.2,
}


class SCVI(VariationalIntegrator):
    """scVI: the decoder is told the batch, so that the latent space need not hold it.

    Its encoder reads counts and nothing else, so cells of a batch that was not in training are embedded
    like any others. The defaults are the library's recommendation for integration, and what the CELLULAR
    study ran.

    Parameters
    ----------
    n_latent, n_layers
        Dimensions of the embedding; hidden layers of encoder and decoder.
    gene_likelihood
        ``"nb"``, ``"zinb"`` or ``"poisson"``.
    max_epochs
        Passes over the training cells; None for the library's rule, 400 up to 20,000 cells and then fewer.
    accelerator
        Where it is trained, as torch lightning calls it.
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
        description="Variational autoencoder of counts whose decoder is told the batch; embeds unseen cells.",
        reads="counts",
        inductive=True,
        doi="10.1038/s41592-018-0229-2",
        url="https://scvi-tools.org",
        license="BSD-3-Clause",
        requires=("scvi",),
        check_params={"max_epochs": 5},
    )
    #: What the model is built with beside the parameters.
    architecture: dict[str, Any] = {}  # noqa: RUF012 - read only

    def __init__(
        self,
        *,
        n_latent: int = 30,
        n_layers: int = 2,
        gene_likelihood: str = "nb",
        max_epochs: int | None = None,
        accelerator: str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(max_epochs=max_epochs, accelerator=accelerator, seed=seed)
        self.n_latent = n_latent
        self.n_layers = n_layers
        self.gene_likelihood = gene_likelihood

    def build(self, data: AnnData) -> Any:
        """Register the data; return scVI."""
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
    """scANVI: scVI trained on, together with a classifier of the labels in its latent space.

    Probabilities are the classifier's; novelty is 1 - the highest one. As in the CELLULAR study, the
    training cells are all labelled, and no cell of the query is seen in training.

    Parameters
    ----------
    n_latent, n_layers, gene_likelihood, max_epochs, accelerator, seed
        As for :class:`SCVI`, from which training goes on.
    label_epochs
        Passes over the training cells with their labels.
    n_samples_per_label
        Cells of each label, at most, that the classifier learns from in an epoch.

    Raises
    ------
    NotApplicableError
        If the data have no counts, or one label.
    """

    spec = MethodSpec(
        method_id="scanvi",
        name="scANVI",
        tasks=("integration", "annotation", "novelty"),
        description="scVI trained on with the labels of the training cells and a classifier.",
        labels="train",
        reads="counts",
        inductive=True,
        doi="10.15252/msb.20209620",
        url="https://scvi-tools.org",
        license="BSD-3-Clause",
        requires=("scvi",),
        check_params={"max_epochs": 10, "label_epochs": 10},
    )

    def __init__(
        self,
        *,
        n_latent: int = 30,
        n_layers: int = 2,
        gene_likelihood: str = "nb",
        max_epochs: int | None = None,
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
        """Train scVI, then with labels."""
        label = labels_of(train)
        require_labels(label, self.spec.method_id)
        data = self.data(train, label=label)
        with self.session():
            import scvi

            unsupervised = self.trained(self.build(data), data.n_obs)
            model = scvi.model.SCANVI.from_scvi_model(unsupervised, UNLABELLED, labels_key=LABEL)
            per_label = self.n_samples_per_label
            split = split_options(data.n_obs, seed=self.seed, label=label, per_label=per_label)
            model.train(self.label_epochs, n_samples_per_label=per_label, **self.options, **split)
        self._model = model
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Name each cell by the classifier."""
        model, data = self.asked(query)
        with self.session():
            probability = model.predict(data, soft=True)
        return most_probable(probability.to_numpy(), probability.columns.tolist())

    def no_labels(self, query: AnnData) -> NDArray[np.str_]:
        """Return the name that stands for no label, for every cell."""
        return np.full(query.n_obs, UNLABELLED)


class _Surgery(VariationalIntegrator):
    """Ask a model that has been trained on for the batches of the query."""

    query_epochs: int

    def asked(self, query: AnnData) -> tuple[Any, AnnData]:
        """Add weights for the query's batches and train them; return that model and the cells."""
        self.require_fitted(query)
        data = bare(self.matrix(query), query, batch=batches_of(query), label=self.no_labels(query))
        with self.session():
            model = type(self._model).load_query_data(data, self._model, accelerator=self.accelerator)
            split = split_options(data.n_obs, seed=self.seed)
            # Without decay: it would also shrink the weights that must stay.
            no_decay = {"weight_decay": 0.0}
            model.train(self.query_epochs, plan_kwargs=no_decay, **self.options, **split)
        return model, data


class SCVISurgery(_Surgery, SCVI):
    """scVI by architectural surgery (scArches): trained on for the query, with all else held fast.

    The model is built so that its encoder reads the batch. For a query, weights of its batches are added
    and trained, while the others stay. The cells of the query, though not their labels, are seen in that
    training, so that where a cell lies depends on the other cells of the query.

    Parameters
    ----------
    max_epochs, accelerator, seed
        As for :class:`SCVI`, whose other parameters have their defaults.
    query_epochs
        Passes over the cells of the query.
    """

    spec = MethodSpec(
        method_id="scvi_surgery",
        name="scVI (scArches surgery)",
        tasks=("integration",),
        description="scVI whose weights for the query's batches are trained on the query.",
        reads="counts",
        inductive=True,
        variant_of="scvi",
        doi="10.1038/s41587-021-01001-7",
        url="https://scvi-tools.org",
        license="BSD-3-Clause",
        requires=("scvi",),
        check_params={"max_epochs": 5, "query_epochs": 3},
        expected_failed_checks={"cell_order": "training on the query draws its mini-batches by position"},
    )
    architecture = FOR_SURGERY

    def __init__(
        self,
        *,
        max_epochs: int | None = None,
        query_epochs: int = 200,
        accelerator: str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(max_epochs=max_epochs, accelerator=accelerator, seed=seed)
        self.query_epochs = query_epochs


class SCANVISurgery(_Surgery, SCANVI):
    """scANVI by architectural surgery (scArches): as :class:`SCVISurgery`, with labels of training cells.

    Parameters
    ----------
    max_epochs, label_epochs, accelerator, seed
        As for :class:`SCANVI`, whose other parameters have their defaults.
    query_epochs
        Passes over the cells of the query, which count as unlabelled.
    """

    spec = MethodSpec(
        method_id="scanvi_surgery",
        name="scANVI (scArches surgery)",
        tasks=("integration", "annotation", "novelty"),
        description="scANVI whose weights for the query's batches are trained on the unlabelled query.",
        labels="train",
        reads="counts",
        inductive=True,
        variant_of="scanvi",
        doi="10.1038/s41587-021-01001-7",
        url="https://scvi-tools.org",
        license="BSD-3-Clause",
        requires=("scvi",),
        check_params={"max_epochs": 10, "label_epochs": 10, "query_epochs": 3},
        expected_failed_checks={"cell_order": "training on the query draws its mini-batches by position"},
    )
    architecture = FOR_SURGERY

    def __init__(
        self,
        *,
        max_epochs: int | None = None,
        label_epochs: int = 20,
        query_epochs: int = 100,
        accelerator: str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(max_epochs=max_epochs, label_epochs=label_epochs, accelerator=accelerator, seed=seed)
        self.query_epochs = query_epochs
