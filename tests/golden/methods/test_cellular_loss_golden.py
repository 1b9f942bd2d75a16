"""The loss and its gradients against numbers from the study's own code, on seven mini-batches."""

import numpy as np
import pytest
import torch

from cellular_bench.methods.cellular.centroids import inverse_frequency
from cellular_bench.methods.cellular.loss import LossTerms, cellular_loss

CASES = (
    "basic",
    "cold",
    "many_types",
    "missing_centroid_pair",
    "one_batch",
    "singleton_label",
    "small",
)


@pytest.fixture(params=CASES)
def golden(request, shared):
    with np.load(shared / "golden" / f"cellular_loss_{request.param}.npz") as arrays:
        return dict(arrays)


def _weights(codes: np.ndarray) -> torch.Tensor:
    return torch.tensor(inverse_frequency(codes, n_classes=int(codes.max()) + 1), dtype=torch.float32)


def _inputs(golden) -> tuple[torch.Tensor, torch.Tensor]:
    embedding = torch.tensor(golden["embedding"], requires_grad=True)
    temperature = torch.tensor(float(golden["temperature"]), requires_grad=True)
    return embedding, temperature


def _loss(golden, embedding: torch.Tensor, temperature: torch.Tensor) -> LossTerms:
    return cellular_loss(
        embedding,
        torch.tensor(golden["label"]),
        torch.tensor(golden["batch"]),
        label_weights=_weights(golden["train_label"]),
        batch_weights=_weights(golden["train_batch"]),
        centroid_distances=torch.tensor(golden["centroid_distances"]),
        temperature=temperature,
    )


def test_terms_equal_those_of_the_study(golden):
    terms = _loss(golden, *_inputs(golden))
    assert terms.type.item() == pytest.approx(float(golden["loss_target"]), rel=1e-5)
    assert terms.centroid.item() == pytest.approx(float(golden["loss_centroid"]), rel=1e-5)
    assert terms.total.item() == pytest.approx(float(golden["loss_total"]), rel=1e-5)
    # The reference batch term is what is left of a float32 total: 1e-7 stands for 0.
    assert terms.batch.item() == pytest.approx(float(golden["loss_batch"]), rel=1e-4, abs=1e-6)


def test_gradients_equal_those_of_the_study(golden):
    embedding, temperature = _inputs(golden)
    _loss(golden, embedding, temperature).total.backward()
    largest = np.abs(golden["grad_embedding"]).max()
    # Entries near 0 are differences of larger ones: the scale is that of the largest entry.
    np.testing.assert_allclose(
        embedding.grad.numpy(), golden["grad_embedding"], rtol=1e-4, atol=1e-5 * largest
    )
    assert temperature.grad.item() == pytest.approx(float(golden["grad_temperature"]), rel=1e-4)
