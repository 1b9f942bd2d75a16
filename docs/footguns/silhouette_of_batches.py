"""Scores of batch mixing for batches that overlap in pairs."""

import numpy as np

from cellular_bench.metrics import evaluate

N_PER_BATCH, N_DIMENSIONS, DISTANCE = 150, 10, 20.0
METRIC_IDS = ("silhouette_batch", "bras", "ilisi", "kbet")
#: Positions of the four batches along the first axis.
LAYOUTS = {
    "all four mixed": (0.0, 0.0, 0.0, 0.0),
    "two pairs, far apart": (0.0, 0.0, DISTANCE, DISTANCE),
    "all four far apart": (0.0, DISTANCE, 2 * DISTANCE, 3 * DISTANCE),
}


def measure():
    """Return the metrics of each layout: one cell type, four batches of normal clouds."""
    generator = np.random.default_rng(0)
    batch = np.repeat(["b1", "b2", "b3", "b4"], N_PER_BATCH)
    found = {}
    for layout, places in LAYOUTS.items():
        X_emb = generator.normal(size=(batch.size, N_DIMENSIONS))
        X_emb[:, 0] += np.repeat(places, N_PER_BATCH)
        inputs = {"X_emb": X_emb, "label": np.full(batch.size, "type"), "batch": batch}
        found[layout] = evaluate(METRIC_IDS, inputs)
    return found


if __name__ == "__main__":
    print("| four batches of one type | silhouette (batch) | BRAS | iLISI | kBET |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for layout, values in measure().items():
        print(f"| {layout} | {' | '.join(f'{values[name]:.2f}' for name in METRIC_IDS)} |")
