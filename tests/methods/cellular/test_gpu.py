"""CELLULAR on a GPU: the same cells are named as on the processor, and models move between the two."""

import numpy as np
import pytest
import torch

from cellular_bench.methods.cellular import Cellular

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")


def _fit(cells, **options):
    model = Cellular(seed=0, max_epochs=5, **options)
    return model.fit(cells, label_key="label", batch_key="batch")


def test_a_gpu_is_used_where_there_is_one(train):
    assert _fit(train).device.type == "cuda"


def test_gpu_and_processor_name_cells_alike(train, query):
    names = [_fit(train, device=device).predict(query) for device in ("cuda", "cpu")]
    assert np.mean(names[0] == names[1]) > 0.95


def test_the_same_seed_gives_the_same_embedding_on_a_gpu(train, query):
    first, second = (_fit(train, device="cuda").embed(query) for _ in range(2))
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-3)


def test_bf16_names_cells_as_float32_does(train, query):
    names = [
        _fit(train, device="cuda", precision=precision).predict(query) for precision in ("bf16", "float32")
    ]
    assert np.mean(names[0] == names[1]) > 0.9


def test_a_model_trained_on_a_gpu_is_loaded_on_the_processor(train, query, tmp_path):
    model = _fit(train, device="cuda")
    model.save(tmp_path / "model")
    loaded = Cellular.load(tmp_path / "model", device="cpu")
    np.testing.assert_allclose(loaded.embed(query), model.embed(query), rtol=1e-3, atol=1e-4)
