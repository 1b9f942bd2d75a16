"""SysVI: a conditional autoencoder for very different batches, such as species or protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from cellular_bench.core.keys import BATCH
from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._inputs import require_batches
from cellular_bench.methods._scvi import VariationalIntegrator

if TYPE_CHECKING:
    from anndata import AnnData


class SysVI(VariationalIntegrator):
    """SysVI: a conditional autoencoder with a cycle-consistency loss between batches and a mixture prior.

    Cells are decoded as if from another batch and encoded again; the loss keeps them near their first
    embedding. The mixture prior (VampPrior) keeps types apart while this cycle mixes batches. The encoder
    reads the batch, so cells of unseen batches cannot be embedded.

    Parameters
    ----------
    n_latent
        Number of dimensions of the embedding.
    n_prior_components
        Number of components of the prior.
    max_epochs
        Number of passes over the training cells; None for the library's rule: 400 up to 20,000 cells,
        fewer above. ``"converged"``: at most that many, until the loss on held-out cells has converged.
    accelerator
        Lightning accelerator used for training.
    seed
        Seed of weights, prior and mini-batches.

    Raises
    ------
    NotApplicableError
        If the training cells come from one batch, or a query contains a batch that was not in training.
    """

    spec = MethodSpec(
        method_id="sysvi",
        name="SysVI",
        tasks=("integration",),
        description="Conditional autoencoder with a mixture prior and a cycle through other batches.",
        inductive=True,
        needs_batches=True,
        doi="10.1101/2023.11.03.565463",
        url="https://scvi-tools.org",
        license="BSD-3-Clause",
        requires=("scvi",),
        check_params={"max_epochs": 3},
        warm_up=240,
    )
    encoder_reads_batch = True

    def __init__(
        self,
        *,
        n_latent: int = 15,
        n_prior_components: int = 5,
        max_epochs: int | str | None = None,
        accelerator: str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(max_epochs=max_epochs, accelerator=accelerator, seed=seed)
        self.n_latent = n_latent
        self.n_prior_components = n_prior_components

    def fit(self, train: AnnData) -> Self:
        """Train on the log-normalised training cells."""
        require_batches(train, self.spec.method_id)
        return super().fit(train)

    def build(self, data: AnnData) -> Any:
        """Register the data and return an untrained SysVI model."""
        from scvi.external import SysVI as Model

        Model.setup_anndata(data, batch_key=BATCH)
        return Model(data, n_latent=self.n_latent, n_prior_components=self.n_prior_components)
