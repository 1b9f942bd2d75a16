"""Two clusterings of three perfectly separated types, in equal and in unequal numbers."""

import numpy as np

from cellular_bench.metrics import evaluate

N_CELLS, N_DIMENSIONS, DISTANCE = 900, 10, 8.0
METRIC_IDS = ("clisi", "kmeans_nmi", "kmeans_ari", "leiden_nmi", "leiden_ari")
#: Cells of the three types.
MIXES = {"300, 300, 300": (300, 300, 300), "840, 30, 30": (840, 30, 30)}


def embedding(sizes, generator):
    """Return normal clouds at the corners of a triangle; the first is elongated along one axis."""
    label = np.repeat(["big", "second", "third"], sizes)
    X_emb = generator.normal(size=(N_CELLS, N_DIMENSIONS))
    X_emb[label == "big", 2] *= 4.0
    X_emb[label == "second", 0] += DISTANCE
    X_emb[label == "third", 1] += DISTANCE
    return X_emb, label


def nearest_is_of_the_same_type(X_emb, label):
    """Return the share of cells whose nearest other cell has their label."""
    distance = ((X_emb[:, None] - X_emb[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    return float(np.mean(label[distance.argmin(axis=1)] == label))


def measure():
    """Return the metrics of each mix, and the share of cells whose neighbour has the same type."""
    found = {}
    for mix, sizes in MIXES.items():
        X_emb, label = embedding(sizes, np.random.default_rng(0))
        found[mix] = {
            "nearest": nearest_is_of_the_same_type(X_emb, label),
            **evaluate(METRIC_IDS, {"X_emb": X_emb, "label": label}),
        }
    return found


if __name__ == "__main__":
    names = ("k-means NMI", "k-means ARI", "Leiden NMI", "Leiden ARI")
    print(f"| cells per type | nearest cell of the same type | cLISI | {' | '.join(names)} |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for mix, values in measure().items():
        print(f"| {mix} | {' | '.join(f'{values[name]:.2f}' for name in ('nearest', *METRIC_IDS))} |")
