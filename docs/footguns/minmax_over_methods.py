"""Two methods change places because a third one is added to the table."""

import numpy as np

from cellular_bench.benchmark import registry
from cellular_bench.datasets import catalog
from cellular_bench.metrics import METRICS, evaluate

PAIR, THIRD = ("pca", "unintegrated"), "shuffled_within_batch"
WEIGHTS = {"batch_correction": 0.4, "bio_conservation": 0.6}
METRIC_IDS = ("ilisi", "bras", "leiden_nmi", "silhouette_label")


def scores():
    """Return the value of each metric for each method, on every other cell of the bundled pancreas."""
    adata = catalog.load(catalog.specs()["baron"]).adata[::2].copy()
    known = {"label": adata.obs["label"].astype(str), "batch": adata.obs["batch"].astype(str)}
    table = {}
    for name in (*PAIR, THIRD):
        X_emb = registry.method(name).factory(seed=0).fit_embed(adata)
        found = evaluate(
            METRIC_IDS, {"X_emb": X_emb, **{key: np.asarray(value) for key, value in known.items()}}
        )
        table[name] = {metric: float(value) for metric, value in found.items()}
    return table


def overall(table, names, *, scale):
    """Return the overall score of some methods; ``scale`` maps the values of a metric to 0 ... 1."""
    scaled = {
        metric: scale(metric, np.array([table[name][metric] for name in names])) for metric in METRIC_IDS
    }
    aspects = {
        aspect: np.mean([scaled[metric] for metric in METRIC_IDS if METRICS[metric].aspect == aspect], axis=0)
        for aspect in WEIGHTS
    }
    return dict(zip(names, sum(weight * aspects[aspect] for aspect, weight in WEIGHTS.items()), strict=True))


def by_own_range(metric, values):
    """Scale by the metric's own range."""
    spec = METRICS[metric]
    return (values - spec.minimum) / (spec.maximum - spec.minimum)


def by_methods(_metric, values):
    """Scale between the worst and the best method of the table."""
    return (values - values.min()) / np.ptp(values)


def measure(table):
    """Return the overall scores of two and of three methods, with both scales."""
    return {
        (scale.__name__, len(names)): overall(table, names, scale=scale)
        for scale in (by_methods, by_own_range)
        for names in (PAIR, (*PAIR, THIRD))
    }


if __name__ == "__main__":
    table = scores()
    print(f"| | {' | '.join(METRICS[metric].name for metric in METRIC_IDS)} |")
    print(f"| --- |{' ---: |' * len(METRIC_IDS)}")
    for name, values in table.items():
        print(f"| `{name}` | {' | '.join(f'{values[metric]:.3f}' for metric in METRIC_IDS)} |")
    print()
    print("| scaled | in the table | `pca` | `unintegrated` |")
    print("| --- | --- | ---: | ---: |")
    for (scale, size), values in measure(table).items():
        how = "over the methods" if scale == "by_methods" else "by each metric's own range"
        others = "these two" if size == 2 else "and `shuffled_within_batch`"
        print(f"| {how} | {others} | {values['pca']:.3f} | {values['unintegrated']:.3f} |")
