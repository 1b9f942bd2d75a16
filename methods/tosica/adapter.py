"""TOSICA as the harness runs it. Nothing heavy is imported before fit."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError, UnknownNameError, UserError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._support import (
    labels_of,
    most_probable,
    preset_with,
    require_labels,
    require_same_genes,
)
from cellular_bench.methods.tosica.gene_sets import GeneSets, at_random, from_gmt
from cellular_bench.methods.tosica.settings import LAYOUTS, PRESETS

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.methods.tosica.model import Tosica as Network


class Tosica:
    """TOSICA, written anew from its description: a transformer whose tokens are gene sets.

    Each gene set becomes a token, a linear function of its genes; two transformer blocks let a class token
    gather from them; it is classified. How much attention the class token pays to each gene set is the
    embedding.

    This project ships no gene sets. Without ``gene_sets`` the tokens are 299 random sets, each gene in each
    with a chance of 1.5 %: the authors' own way out, which says nothing about pathways. Any GMT file of the
    Molecular Signatures Database will do, or one made from Debian's package ``r-bioc-org.hs.eg.db``
    (``docs/methods/tosica.md``).

    Parameters
    ----------
    gene_sets
        Path to a GMT file, gzipped or not, with gene names as in the data. None: random sets.
    preset
        ``"default"``: tokens as the authors describe them, mini-batches of 64 cells. ``"paper"``: the code
        that the CELLULAR study ran, whose tokens mix gene sets, mini-batches of 8.
    max_gene_sets
        Tokens, the one of all genes included: those sets that hold most genes of the data. None keeps the
        preset's, here and below.
    max_set_size
        Gene sets with more genes in the file are left out.
    layout
        ``"set"``: a token per gene set. ``"published"``: each token takes its 48 values from 48 gene sets, as
        in the published code; attention then belongs to no set.
    epochs, batch_size, learning_rate
        How long, in mini-batches of how many cells, and how fast to learn.
    reject_below
        Cells whose highest probability is below it are rejected; that cannot happen with ten labels or fewer.
    seed
        Seed of every draw, random gene sets included.

    Raises
    ------
    NotApplicableError
        If the gene sets hold too few genes of the data, or there is one label.
    """

    spec: ClassVar[MethodSpec] = MethodSpec(
        method_id="tosica",
        name="TOSICA",
        tasks=("integration", "annotation", "novelty"),
        description="Transformer whose tokens are gene sets; embedding = attention to each of them.",
        labels="train",
        features="hvg",
        inductive=True,
        is_reimplementation=True,
        doi="10.1038/s41467-023-35923-4",
        url="https://github.com/JackieHanLab/TOSICA",
        license="BSD-3-Clause",
        requires=("torch",),
        file_params=("gene_sets",),
        check_params={"max_gene_sets": 30, "epochs": 1},
        expected_failed_checks={
            "beats_chance": (
                "From its small first weights it learns nothing for some thousand steps; 240 cells are gone "
                "through in four."
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
        self._network: Network | None = None

    def fit(self, train: AnnData) -> Self:
        """Choose the gene sets and train the network."""
        from cellular_bench.methods.tosica import training

        label = labels_of(train)
        require_labels(label, self.spec.method_id)
        self._labels, code = np.unique(label, return_inverse=True)
        self._genes = list(train.var_names)
        self.tokens = self._tokens()
        self._network = training.train(
            _rows(train), code, self.tokens, settings=self.settings, seed=self.seed
        )
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Name the cells of the query."""
        from scipy.special import softmax

        logits = self._apply(query, self._trained())
        probability = softmax(logits.astype(np.float64), axis=1)
        return most_probable(probability, self._labels.tolist(), reject_below=self.reject_below)

    def embed(self, query: AnnData) -> NDArray[np.float32]:
        """Return the attention that each cell pays to each gene set, (n_obs, n_sets)."""
        return self._apply(query, self._trained().attention)

    def _apply(self, query: AnnData, function: Any) -> NDArray[np.float32]:
        from cellular_bench.methods.tosica import training

        require_same_genes(query, self._genes, self.spec.method_id)
        return training.apply(self._trained(), _rows(query), function=function)

    def _trained(self) -> Network:
        if self._network is None:
            raise ContractError("tosica: predict was called before fit. Call fit first.")
        return self._network

    def _tokens(self) -> GeneSets:
        n_sets = self.settings.max_gene_sets - 1
        if self.gene_sets is not None:
            return from_gmt(
                Path(self.gene_sets), self._genes, max_sets=n_sets, max_set_size=self.settings.max_set_size
            )
        warnings.warn(
            f"tosica: no gene_sets given; its tokens are {n_sets} random sets of genes, not pathways. Give "
            "the path of a GMT file to change that.",
            UserWarning,
            stacklevel=3,
        )
        return at_random(len(self._genes), n_sets=n_sets, seed=self.seed)


def _rows(adata: AnnData) -> Any:
    """Return the expression in a form whose rows are quick to take."""
    X: Any = adata.X
    return X.tocsr() if hasattr(X, "tocsr") else X
