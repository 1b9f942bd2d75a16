"""DRVI: an autoencoder whose decoder is a sum over latent dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellular_bench.core.keys import BATCH
from cellular_bench.core.types import MethodSpec
from cellular_bench.methods._scvi import VariationalIntegrator

if TYPE_CHECKING:
    from anndata import AnnData


class DRVI(VariationalIntegrator):
    """DRVI: every latent dimension is decoded separately, so that each tends to represent one gene program.

    The decoder is conditioned on the batch; the encoder reads only counts, so cells of unseen batches are
    embedded like any others.

    Parameters
    ----------
    n_latent
        Number of dimensions of the embedding.
    max_epochs
        Number of passes over the training cells; None for the library's rule: 400 up to 20,000 cells,
        fewer above. ``"converged"``: at most that many, until the loss on held-out cells has converged.
    accelerator
        Lightning accelerator used for training.
    seed
        Seed of weights and mini-batches.

    Raises
    ------
    NotApplicableError
        If the data have no counts.
    """

    spec = MethodSpec(
        method_id="drvi",
        name="DRVI",
        tasks=("integration",),
        description="Autoencoder of counts with an additive decoder conditioned on the batch.",
        reads="counts",
        inductive=True,
        doi="10.1101/2024.11.06.622266",
        url="https://github.com/theislab/DRVI",
        license="BSD-3-Clause",
        requires=("scvi", "drvi"),
        check_params={"max_epochs": 5},
        warm_up=240,
    )

    def __init__(
        self,
        *,
        n_latent: int = 32,
        max_epochs: int | str | None = None,
        accelerator: str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(max_epochs=max_epochs, accelerator=accelerator, seed=seed)
        self.n_latent = n_latent

    def build(self, data: AnnData) -> Any:
        """Register the data and return an untrained DRVI model."""
        import drvi

        drvi.model.DRVI.setup_anndata(data, batch_key=BATCH, is_count_data=True)
        return drvi.model.DRVI(data, n_latent=self.n_latent)
