"""SysVI: a conditional autoencoder for batches that differ much, such as species or protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from cellular_bench.core.keys import BATCH
from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._scvi import VariationalIntegrator
from cellular_bench.methods._support import require_batches

if TYPE_CHECKING:
    from anndata import AnnData


class SysVI(VariationalIntegrator):
    """SysVI: cells are decoded as of another batch and encoded again, and must come back to their place.

    A mixture prior (VampPrior) keeps types apart while that cycle mixes batches. The encoder reads the
    batch, so cells of unseen batches cannot be embedded.

    Parameters
    ----------
    n_latent
        Dimensions of the embedding.
    n_prior_components
        Components of the prior.
    max_epochs
        Passes over the training cells; None for the library's rule, 400 up to 20,000 cells and then fewer.
    accelerator
        Where it is trained, as torch lightning calls it.
    seed
        Seed of weights, prior and mini-batches.

    Raises
    ------
    NotApplicableError
        If the training cells come from one batch, or a query from a batch that is not among theirs.
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
    )
    encoder_reads_batch = True

    def __init__(
        self,
        *,
        n_latent: int = 15,
        n_prior_components: int = 5,
        max_epochs: int | None = None,
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
        """Register the data; return SysVI."""
        from scvi.external import SysVI as Model

        Model.setup_anndata(data, batch_key=BATCH)
        return Model(data, n_latent=self.n_latent, n_prior_components=self.n_prior_components)
