"""CELLULAR for the harness, with its two ablations. Nothing heavy is imported before fit."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UserError
from cellular_bench.core.keys import BATCH, HIGHLY_VARIABLE, LABEL
from cellular_bench.core.types import MethodSpec, Prediction

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.methods.cellular.api import Cellular


class CellularMethod:
    """CELLULAR with its full loss.

    Parameters
    ----------
    preset
        ``"default"``: reads the highly variable genes that the harness selects on all training cells.
        ``"paper"``: the settings of the study; selects as many genes itself, on the inner training cells.
    max_epochs
        Maximum number of epochs of the encoder; None uses the value of the preset.
    n_trials
        Number of trials of the search for the classifier's settings, 0 for no search; None uses the value
        of the preset.
    novelty_kind
        Score reported as novelty; None uses the value of the preset.
    seed
        Seed of all random numbers.

    Attributes
    ----------
    artifacts
        Folder for ``history.json`` and for ``tuning.journal`` (the trials, from which an interrupted search
        resumes). The harness sets it before :meth:`fit`; None writes no files.
    """

    spec: ClassVar[MethodSpec] = MethodSpec(
        method_id="cellular",
        name="CELLULAR",
        tasks=("integration", "annotation", "novelty"),
        description=(
            "Contrastive encoder that separates types, mixes batches and keeps distances between types; "
            "classifier on the frozen embedding."
        ),
        labels="train",
        features="all",
        inductive=True,
        is_reimplementation=True,
        url="https://doi.org/10.5281/zenodo.10959788",
        license="BSD-3-Clause",
        requires=("torch", "sklearn"),
        version=5,
        check_params={"max_epochs": 8},
        warm_up=240,
    )
    loss: ClassVar[str] = "full"
    artifacts: Path | None = None

    def __init__(
        self,
        *,
        preset: str = "default",
        max_epochs: int | None = None,
        n_trials: int | None = None,
        novelty_kind: str | None = None,
        seed: int = 0,
    ) -> None:
        self.arguments: dict[str, Any] = {
            "preset": preset,
            "max_epochs": max_epochs,
            "n_trials": n_trials,
            "seed": seed,
            "loss": self.loss,
        }
        if novelty_kind is not None:
            self.arguments["novelty_kind"] = novelty_kind
        self.model: Cellular | None = None
        self._reads: NDArray[np.bool_] | None = None

    def fit(self, train: AnnData) -> Self:
        """Train the encoder. The classifier is trained at the first :meth:`predict`."""
        from cellular_bench.methods.cellular.api import Cellular

        storage = None if self.artifacts is None else self.artifacts / "tuning.journal"
        variable = train.var[HIGHLY_VARIABLE].to_numpy(dtype=bool) if HIGHLY_VARIABLE in train.var else None
        n_top_genes = None
        if variable is not None and self.arguments["preset"] == "paper":
            n_top_genes, variable = int(variable.sum()), None
        self._reads = variable
        # The progress lines go to the log of the run.
        model = Cellular(**self.arguments, n_top_genes=n_top_genes, tuning_storage=storage, progress=True)
        self.model = model.fit(self._seen(train), label_key=LABEL, batch_key=BATCH, with_classifier=False)
        self._keep_history(self.model)
        return self

    def embed(self, query: AnnData) -> NDArray[np.float32]:
        """Return the embedding of cells, (n_obs, n_latent)."""
        return self._fitted().embed(self._seen(query))

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label and the novelty of each cell of the query."""
        prediction = self._fitted().annotate(self._seen(query))
        self._keep_history(self._fitted())
        return prediction

    def _seen(self, adata: AnnData) -> AnnData:
        return adata if self._reads is None else adata[:, self._reads]

    def _keep_history(self, model: Cellular) -> None:
        if self.artifacts is not None:
            parts = {"encoder": model.history, "classifier": model.classifier_history}
            text = json.dumps({name: asdict(part) for name, part in parts.items() if part is not None})
            (self.artifacts / "history.json").write_text(text, encoding="utf-8")

    def _fitted(self) -> Cellular:
        if self.model is None:
            raise UserError(f"{self.spec.method_id}: the method is not fitted; call fit(train) first.")
        return self.model


class CellularContrastiveMethod(CellularMethod):
    """CELLULAR trained on its type and batch terms only, the first ablation of the study."""

    spec: ClassVar[MethodSpec] = replace(
        CellularMethod.spec,
        method_id="cellular_contrastive",
        name="CELLULAR, contrastive terms",
        description="CELLULAR without the centroid term of its loss.",
        variant_of="cellular",
    )
    loss: ClassVar[str] = "contrastive"


class CellularCentroidMethod(CellularMethod):
    """CELLULAR trained on its centroid term only, the second ablation of the study."""

    spec: ClassVar[MethodSpec] = replace(
        CellularMethod.spec,
        method_id="cellular_centroid",
        name="CELLULAR, centroid term",
        description="CELLULAR with the centroid term of its loss only.",
        variant_of="cellular",
    )
    loss: ClassVar[str] = "centroid"
