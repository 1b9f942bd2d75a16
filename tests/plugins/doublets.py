"""A made-up task in one file: which droplets hold two cells."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from cellular_bench import (
    MethodSpec,
    Outputs,
    Task,
    TaskInputs,
    checked_numbers,
    dataset,
    metric,
)
from cellular_bench.reports.tables.method_rows import method_rows
from cellular_bench.reports.tables.model import Cell, Column, Table

N_GENES = 20


@dataset(
    dataset_id="droplets",
    title="Droplets",
    label_key="cell_type",
    batch_key="lane",
    counts_layer="X",
    truth_keys=("doublet",),
)
def droplets() -> AnnData:
    """32 single cells, of which one is large, and 8 doublets, of which two are small."""
    totals = np.repeat([100, 200, 200, 100], [31, 1, 6, 2])
    generator = np.random.default_rng(0)
    counts = np.stack([generator.multinomial(n, np.full(N_GENES, 1 / N_GENES)) for n in totals])
    obs = pd.DataFrame(
        {
            "cell_type": np.tile(["a", "b"], 20),
            "lane": np.tile(["x", "x", "y", "y"], 10),
            "doublet": np.repeat([False, True], [32, 8]),
        },
        index=[f"d{i}" for i in range(40)],
    )
    return AnnData(counts.astype(np.float32), obs=obs)


def needs_doublets(data: Any) -> str | None:
    """Refuse data that do not say which droplets are doublets."""
    if "doublet" not in data.adata.obs:
        return f"Data set '{data.spec.dataset_id}' has no truth 'doublet': name it in truth_keys."
    return None


def read(method_id: str, returned: Any, obs_names: Any, genes: Any) -> Outputs:
    """Check scores of cells."""
    scores = checked_numbers(method_id, "doublet_score", returned, obs_names)
    return Outputs(obs_names=np.asarray(obs_names, dtype=str), more={"doublet_score": scores})


def called_doublets(board: Any) -> Table:
    """Say how well the doublets of the first run were called."""
    return Table(
        table_id=f"{board.board_id}-called",
        title="Doublets called",
        caption="F1 score of the first run, in percent.",
        columns=(Column("Percent"),),
        rows=method_rows(board, lambda row: (Cell(f"{row.runs[0].value('doublet_f1') or 0:.1%}"),)),
    )


DOUBLETS = Task(
    task_id="doublets",
    title="Doublet detection",
    weights={"doublet_calls": 1.0},
    asks="doublet_score",
    read=read,
    scored=("doublet_score",),
    check_data=needs_doublets,
    inputs=(TaskInputs(file="truth", arrays={"is_doublet": lambda adata: adata.obs["doublet"].to_numpy()}),),
    tables=(called_doublets,),
)


@metric(
    metric_id="doublet_f1",
    name="Doublet F1",
    aspect="doublet_calls",
    definition="F1 score of calling droplets with a score of at least 0.5 doublets.",
)
def doublet_f1(doublet_score: Any, is_doublet: Any) -> float:
    """Return the F1 score of the calls.

    Notes
    -----
    Formula: 2 * doublets that are called / (droplets that are called + doublets).

    Fooled by: scores that are right in their order and lie on one side of 0.5.

    Examples
    --------
    >>> doublet_f1(np.array([0.9, 0.1]), np.array([True, False]))
    1.0
    """
    called = np.asarray(doublet_score) >= 0.5
    return float(2 * (called & is_doublet).sum() / (called.sum() + is_doublet.sum()))


class Nobody:
    """Control that calls nothing: the low end of the scale."""

    spec = MethodSpec(
        method_id="no_doublet", name="Control: no doublet", tasks=("doublets",), is_control=True
    )

    def __init__(self, *, seed: int = 0) -> None:
        """Accept a seed for uniformity."""

    def fit(self, train: AnnData) -> None:
        """Learn nothing."""

    def doublet_score(self, query: AnnData) -> Any:
        """Score every droplet 0."""
        return np.zeros(query.n_obs)


class LargeOnes:
    """Doublets are droplets with twice the usual counts."""

    spec = MethodSpec(
        method_id="large_ones",
        name="Large ones",
        tasks=("doublets",),
        reads="counts",
        features="all",
        inductive=True,
    )

    def __init__(self, *, seed: int = 0) -> None:
        """Accept a seed for uniformity."""

    def fit(self, train: AnnData) -> None:
        """Learn the usual counts."""
        self.usual = np.median(self.totals(train))

    def doublet_score(self, query: AnnData) -> Any:
        """Return 0 for the usual counts and 1 for twice as many, named by the droplets."""
        if "doublet" in query.obs:
            raise ValueError("the truth is there to be seen")
        return pd.Series(np.clip(self.totals(query) / self.usual - 1, 0, 1), index=query.obs_names)

    @staticmethod
    def totals(adata: AnnData) -> Any:
        """Sum the counts of each droplet."""
        return np.asarray(adata.layers["counts"].sum(axis=1)).ravel()
