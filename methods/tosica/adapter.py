"""TOSICA for the harness. Nothing heavy is imported before fit."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._inputs import require_fitted, require_labels
from cellular_bench.methods._predictions import most_probable_by_logits
from cellular_bench.methods._presets import preset_with
from cellular_bench.methods.tosica.gene_sets import GeneSets, at_random, from_gmt
from cellular_bench.methods.tosica.settings import LAYOUTS, PRESETS

if TYPE_CHECKING:
    from anndata import AnnData


class Tosica:
    """TOSICA, reimplemented from its description: a transformer whose tokens are gene sets.

    Each gene set becomes a token, a linear function of its genes. A class token collects information from
    all tokens in two transformer blocks and is classified. The attention of the class token to each gene
    set is the embedding.

    This project ships no gene sets. Without ``gene_sets`` the tokens are 299 random sets, to each of which
    a gene belongs with probability 1.5 %, as in the authors' package; they carry no information on pathways.
    Any GMT file of the Molecular Signatures Database can be used, or one made from the Debian package
    ``r-bioc-org.hs.eg.db`` (``docs/methods/tosica.md``).

    Parameters
    ----------
    gene_sets
        Path of a GMT file, gzipped or not, with gene names as in the data. None: random sets.
    preset
        ``"default"`` and ``"paper"``: the authors' code and settings, which the CELLULAR study also used.
        Tokens of this code mix gene sets. ``"sets"``: one token per gene set, as described by the authors,
        and mini-batches of 64 cells.
    max_gene_sets
        Maximum number of tokens, including one token of all genes. Sets with most genes in the data are
        kept. None uses the value of the preset, here and below.
    max_set_size
        Gene sets with more genes in the file are left out.
    layout
        ``"set"``: one token per gene set. ``"published"``: each token takes its 48 values from 48 gene sets,
        as in the published code; attention then cannot be attributed to a set.
    epochs
        Number of epochs.
    batch_size
        Number of cells per mini-batch.
    learning_rate
        Initial learning rate.
    reject_below
        Cells whose highest probability is below this value are rejected. With the default of 0.1 this is
        impossible for ten labels or fewer.
    seed
        Seed of all random numbers, including random gene sets.

    Raises
    ------
    NotApplicableError
        If the gene sets hold too few genes of the data, or if there is only one label.
    """

    spec: ClassVar[MethodSpec] = MethodSpec(
        method_id="tosica",
        name="TOSICA",
        tasks=("integration", "annotation", "novelty"),
        description="Transformer whose tokens are gene sets; the embedding is the attention to each set.",
        labels="train",
        features="hvg",
        inductive=True,
        is_reimplementation=True,
        doi="10.1038/s41467-023-35923-4",
        url="https://github.com/JackieHanLab/TOSICA",
        license="BSD-3-Clause",
        requires=("torch",),
        version=2,
        file_params=("gene_sets",),
        check_params={"max_gene_sets": 30, "epochs": 1},
        warm_up=240,
        expected_failed_checks={
            "beats_chance": (
                "Its small initial weights need some thousand steps before it learns; an epoch of the 240 "
                "cells of this check has fewer than a hundred."
            )
        },
    )

    def __init__(
        self,
        *,
        gene_sets: str | None = None,
        preset: str = "default",
        max_gene_sets: int | None = None,
        max_set_size: int | None = None,
        layout: str | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        reject_below: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.settings = preset_with(
            PRESETS,
            preset,
            max_gene_sets=max_gene_sets,
            max_set_size=max_set_size,
            layout=layout,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
        )
        if self.settings.layout not in LAYOUTS:
            raise UnknownNameError("layout", self.settings.layout, LAYOUTS)
        for name, least in {"max_gene_sets": 2, "epochs": 1, "batch_size": 1}.items():
            value = getattr(self.settings, name)
            if value < least:
                raise UserError(f"tosica: {name} is {value}; it must be at least {least}.")
        self.gene_sets = gene_sets
        self.reject_below = reject_below
        self.seed = seed
        self._genes: list[str] = []

    def fit(self, train: AnnData) -> Self:
        """Select the gene sets and train the network."""
        from cellular_bench.methods.tosica import training

        label = require_labels(train, self.spec.method_id)
        self._labels, code = np.unique(label, return_inverse=True)
        genes = list(train.var_names)
        self.tokens = self._tokens(genes)
        self._network = training.train(
            _rows(train), code, self.tokens, settings=self.settings, seed=self.seed
        )
        self._genes = genes
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label of each cell of the query."""
        from cellular_bench.methods.tosica import training

        require_fitted(query, self._genes, self.spec.method_id)
        logits = training.apply(self._network, _rows(query), function=self._network)
        return most_probable_by_logits(logits, self._labels.tolist(), reject_below=self.reject_below)

    def embed(self, query: AnnData) -> NDArray[np.float32]:
        """Return the attention of each cell to each gene set, (n_obs, n_sets)."""
        from cellular_bench.methods.tosica import training

        require_fitted(query, self._genes, self.spec.method_id)
        return training.apply(self._network, _rows(query), function=self._network.attention)

    def _tokens(self, genes: list[str]) -> GeneSets:
        n_sets = self.settings.max_gene_sets - 1
        if self.gene_sets is not None:
            return from_gmt(
                Path(self.gene_sets), genes, max_sets=n_sets, max_set_size=self.settings.max_set_size
            )
        warnings.warn(
            f"tosica: no gene_sets given; its tokens are {n_sets} random sets of genes, not pathways. Set "
            "gene_sets to the path of a GMT file to use pathways.",
            UserWarning,
            stacklevel=3,
        )
        return at_random(len(genes), n_sets=n_sets, seed=self.seed)


def _rows(adata: AnnData) -> Any:
    """Return the expression in a format from which rows can be selected fast."""
    X: Any = adata.X
    return X.tocsr() if hasattr(X, "tocsr") else X
