"""Save and load fitted models: a folder with ``model.json`` (text) and ``weights.pt`` (tensors only)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from cellular_bench.core.errors import UserError
from cellular_bench.methods.cellular.loop import Epoch, History
from cellular_bench.methods.cellular.model import EncoderWithTemperature, build_classifier, build_encoder
from cellular_bench.methods.cellular.settings import ClassifierSettings
from cellular_bench.methods.cellular.state import Fitted

#: Increased whenever older files could be misread.
FORMAT_VERSION: Final = 3
_ARRAYS: Final = ("train_emb", "train_label", "train_rows", "validation_rows")


def save(arguments: Mapping[str, Any], fitted: Fitted, folder: Path) -> None:
    """Write a fitted model and the arguments of its constructor to a new or empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"cellular: {folder} exists and is not an empty folder; use another path.")
    assert fitted.classifier is not None
    assert fitted.classifier_settings is not None
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        "format_version": FORMAT_VERSION,
        "versions": {name: version(name) for name in ("cellular-bench", "torch")},
        "arguments": dict(arguments),
        "classifier": asdict(fitted.classifier_settings),
        "labels": fitted.labels,
        "genes": fitted.genes,
        "history": asdict(fitted.encoder_history),
        "classifier_history": asdict(fitted.classifier_history) if fitted.classifier_history else None,
    }
    (folder / "model.json").write_text(json.dumps(description, indent=1), encoding="utf-8")
    tensors = {
        "encoder": fitted.encoder.state_dict(),
        "classifier": fitted.classifier.state_dict(),
        **{name: torch.from_numpy(getattr(fitted, name)) for name in _ARRAYS},
    }
    torch.save(tensors, folder / "weights.pt")


def load(folder: Path, *, device: torch.device) -> tuple[dict[str, Any], Fitted]:
    """Return the constructor arguments and the fitted parts of a saved model."""
    text = _read_description(folder)
    arguments = text["arguments"]
    arguments["classifier"] = _classifier_settings(arguments["classifier"])
    for name in ("temperature_range", "tuning_widths"):
        arguments[name] = tuple(arguments[name])
    # weights_only: tensors and plain containers, never code.
    tensors = torch.load(folder / "weights.pt", map_location=device, weights_only=True)
    shape = _classifier_settings(text["classifier"])
    encoder = EncoderWithTemperature(
        build_encoder(len(text["genes"]), n_latent=arguments["n_latent"], dropout=arguments["dropout"]),
        temperature=arguments["temperature"],
    )
    classifier = build_classifier(
        arguments["n_latent"], len(text["labels"]), hidden=shape.hidden, dropout=shape.dropout
    )
    encoder.load_state_dict(tensors["encoder"])
    classifier.load_state_dict(tensors["classifier"])
    fitted = Fitted(
        genes=tuple(text["genes"]),
        labels=tuple(text["labels"]),
        encoder=encoder.to(device).eval(),
        encoder_history=_history(text["history"]),
        classifier=classifier.to(device).eval(),
        classifier_history=_history(text["classifier_history"]),
        classifier_settings=shape,
        **{name: np.asarray(tensors[name].cpu().numpy()) for name in _ARRAYS},
    )
    return arguments, fitted


def _read_description(folder: Path) -> dict[str, Any]:
    missing = [name for name in ("model.json", "weights.pt") if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"cellular: {folder} is not a saved model: {' and '.join(missing)} not found. "
            "Use a folder written by Cellular.save."
        )
    text: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    if text.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"cellular: {folder} has format version {text.get('format_version')}, but this version of the "
            f"package reads {FORMAT_VERSION}. It was written with {text.get('versions')}: use these versions "
            "or fit again."
        )
    return text


def _classifier_settings(text: dict[str, Any]) -> ClassifierSettings:
    first, second = text["hidden"]
    return ClassifierSettings(**{**text, "hidden": (first, second)})


def _history(text: dict[str, Any]) -> History:
    return History(**{**text, "epochs": [Epoch(**epoch) for epoch in text["epochs"]]})
