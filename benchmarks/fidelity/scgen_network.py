"""Outputs of scGen's own network (2.1.0) with weights by a rule, for ``tests/methods/test_scgen.py``.

``run-benchmark env create scgen_original``, then run this file with the Python of that environment.
"""

import torch
from network_values import expression, fill, write
from scgen._scgenvae import SCGENVAE

network = SCGENVAE(n_input=7, n_hidden=6, n_latent=3, n_layers=2, dropout_rate=0.2).eval()
fill(network)
X = torch.from_numpy(expression(5, 7)).float()
with torch.no_grad():
    encoded = network.inference(X)
    decoded = network.generative(encoded["qz_m"])
    losses = [
        network.loss(
            {"X": X[[cell]]},
            {name: encoded[name][[cell]] for name in ("qz_m", "qz_v")},
            {"px": decoded["px"][[cell]]},
        ).loss
        for cell in range(len(X))
    ]
write(
    "scgen_network",
    {
        "mean": encoded["qz_m"],
        "variance": encoded["qz_v"],
        "decoded": decoded["px"],
        "loss": torch.stack(losses)[:, None],
    },
)
