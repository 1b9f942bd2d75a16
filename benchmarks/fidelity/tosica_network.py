"""Outputs of TOSICA's own network with weights by a rule, for ``tests/methods/test_tosica.py``.

``python benchmarks/fidelity/tosica_network.py FOLDER``, where FOLDER holds the authors' files
``TOSICA_model.py`` and ``customized_linear.py`` (JackieHanLab/TOSICA, commit 0aa2b32); needs einops.
"""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from network_values import expression, fill, write

folder = ModuleType("tosica_original")  # a package, without the files that it does not need
folder.__path__ = [str(Path(sys.argv[1]).resolve())]
sys.modules["tosica_original"] = folder
model = import_module("tosica_original.TOSICA_model")

#: Genes in rows, sets in columns; the last set has all genes.
mask = np.array(
    [
        [1, 0, 1, 0, 1],
        [0, 1, 1, 0, 1],
        [1, 0, 1, 0, 1],
        [0, 0, 1, 1, 1],
        [0, 0, 1, 0, 1],
        [1, 0, 1, 0, 1],
        [0, 0, 1, 1, 1],
    ]
)
network = model.scTrans_model(num_classes=3, num_genes=7, mask=mask, has_logits=False)
fill(network)
with torch.no_grad():
    _, logits, attention = network.eval()(torch.from_numpy(expression(5, 7)).float())
# The attention to the last set, of all genes, is not part of the embedding.
write("tosica_network", {"logits": logits, "attention": attention[:, :-1]})
