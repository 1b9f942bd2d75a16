"""Islands of the labels against honest methods, with and without structure in the overall score."""

from statistics import fmean

import numpy as np

from cellular_bench.benchmark import registry
from cellular_bench.core.genes import variable_genes
from cellular_bench.datasets import catalog
from cellular_bench.metrics import METRICS, evaluate
from cellular_bench.metrics.structure.reference import cell_depth, structure_reference

ISLANDS, HONEST = "perfect_labels", ("harmony", "scanorama", "pca")
METRIC_IDS = (
    "ilisi", "bras", "kbet_per_label", "graph_connectivity", "clisi", "silhouette_label", "isolated_labels",
    "type_geometry", "state_kept", "spread_kept",
)  # fmt: skip
#: Weights of batch correction, bio conservation and structure.
WITHOUT, WITH = (0.4, 0.6, 0.0), (0.3, 0.4, 0.3)
ASPECTS = ("batch_correction", "bio_conservation", "structure")


def measure():
    """Return the aspect scores of each method on every other cell of the bundled pancreas."""
    adata = catalog.load(catalog.specs()["baron"]).adata[::2].copy()
    label, batch = (np.asarray(adata.obs[key], dtype=str) for key in ("label", "batch"))
    genes = variable_genes(adata.X)
    depth = cell_depth(adata.layers["counts"], are_counts=True)
    structure = structure_reference(adata.X, batch, label, highly_variable=genes, depth=depth)
    found = {}
    for name in (ISLANDS, *HONEST):
        X_emb = registry.method(name).factory(seed=0).fit_embed(adata[:, genes].copy())
        values = evaluate(
            METRIC_IDS, {"X_emb": X_emb, "label": label, "batch": batch, "structure": structure}
        )
        found[name] = {
            aspect: fmean(min(1.0, max(0.0, values[m])) for m in METRIC_IDS if METRICS[m].aspect == aspect)
            for aspect in ASPECTS
        }
    return found


def overall(aspects, weights):
    """Return the weighted mean of aspect scores."""
    return sum(weight * aspects[name] for name, weight in zip(ASPECTS, weights, strict=True))


if __name__ == "__main__":
    print("| | batch | bio | structure | 0.4 batch + 0.6 bio | 0.3 batch + 0.4 bio + 0.3 structure |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, aspects in measure().items():
        scores = (*aspects.values(), overall(aspects, WITHOUT), overall(aspects, WITH))
        print(f"| `{name}` | {' | '.join(f'{score:.3f}' for score in scores)} |")
