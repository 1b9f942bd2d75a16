"""Outputs of the authors' networks of TOSICA and scGen, small and with weights drawn from a seed.

``python benchmarks/fidelity/networks.py TOSICA SCGEN OUT`` with the folders of
https://github.com/JackieHanLab/TOSICA and https://github.com/theislab/scgen. TOSICA's code needs einops.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
import fidelity

#: Our names of a block's layers, and the authors'.
LAYERS = {
    "norm": "norm1",
    "qkv": "attn.qkv",
    "project": "attn.proj",
    "mlp_norm": "norm2",
    "widen": "mlp.fc1",
    "narrow": "mlp.fc2",
}


def module_of(folder: Path, name: str) -> ModuleType:
    """Import a module of a package without what the package imports itself."""
    package = ModuleType(f"original_{folder.name}")
    package.__path__ = [str(folder)]
    sys.modules[package.__name__] = package
    return importlib.import_module(f"{package.__name__}.{name}")


def tosica(folder: Path) -> pd.DataFrame:
    ours, X = fidelity.small_tosica()
    members, n_vars = fidelity.TOSICA_SETS, X.shape[1]
    # The last token has all genes.
    mask = np.array([[gene in found for found in (*members, range(n_vars))] for gene in range(n_vars)])
    original = module_of(folder / "TOSICA", "TOSICA_model").scTrans_model(
        num_classes=ours.head.out_features, num_genes=n_vars, mask=mask.astype(float), has_logits=False
    )
    state = original.state_dict()
    weight = torch.zeros(len(members) + 1, 48, n_vars)
    for number, found in enumerate(members):
        weight[number, :, found] = ours.tokens.weight.detach()[number, : len(found)].T
    weight[-1] = ours.tokens.all_genes.weight.detach()
    state["feature_embed.fe.weight"] = weight.flatten(0, 1)
    bias = [ours.tokens.bias.detach().flatten(), ours.tokens.all_genes.bias.detach()]
    state["feature_embed.fe.bias"] = torch.cat(bias)
    state["cls_token"] = ours.class_token.detach()
    for name, value in ours.state_dict().items():
        part, _, rest = name.partition(".")
        if part in ("first", "second"):
            layer, _, kind = rest.partition(".")
            state[f"blocks.{('first', 'second').index(part)}.{LAYERS[layer]}.{kind}"] = value
        elif part in ("norm", "head"):
            state[name] = value
    original.load_state_dict(state)
    with torch.no_grad():
        _, logits, attention = original.eval()(X)
    return table(logit=logits, attention=attention[:, :-1])


def scgen(folder: Path) -> pd.DataFrame:
    ours, X = fidelity.small_scgen()
    original = module_of(folder / "scgen", "_scgenvae").SCGENVAE(
        X.shape[1], n_hidden=ours.mean.in_features, n_latent=ours.mean.out_features, dropout_rate=0.2
    )
    # Both define the same layers in the same order.
    names, values = list(original.state_dict()), list(ours.state_dict().values())
    original.load_state_dict(dict(zip(names, values, strict=True)))
    original.eval()
    with torch.no_grad():
        mean, variance, _ = original.z_encoder(X)
        decoded = original.decoder(mean)
        outputs = {"qz_m": mean, "qz_v": variance}
        loss = torch.stack(
            [
                original.loss(
                    {"X": X[i : i + 1]}, {k: v[i : i + 1] for k, v in outputs.items()}, {"px": row}
                ).loss
                for i, row in enumerate(decoded[:, None])
            ]
        )
    return table(mean=mean, variance=variance, decoded=decoded, loss=loss[:, None])


def table(**parts: torch.Tensor) -> pd.DataFrame:
    """Put arrays of cells side by side; columns are named ``part_number``."""
    columns = {
        f"{name}_{number}": column
        for name, values in parts.items()
        for number, column in enumerate(values.T.numpy())
    }
    return pd.DataFrame(columns)


if __name__ == "__main__":
    tosica_folder, scgen_folder, out = map(Path, sys.argv[1:])
    for name, made in (("tosica_network", tosica(tosica_folder)), ("scgen_network", scgen(scgen_folder))):
        made.to_csv(
            out / f"{name}.csv.gz",
            index=False,
            float_format="%.9g",
            compression={"method": "gzip", "mtime": 0},
        )
