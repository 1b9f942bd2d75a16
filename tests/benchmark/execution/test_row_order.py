"""Output whose rows are in another order than the cells is distinguished from output that is merely bad."""

import numpy as np
import pytest

from cellular_bench.benchmark.execution.preparation import Truth
from cellular_bench.benchmark.execution.scoring import NOISE as NOTE
from cellular_bench.benchmark.execution.scoring import check_rows_belong_to_cells, is_noise
from cellular_bench.core.errors import ContractError
from cellular_bench.core.outputs import Outputs

N_OBS = 600


@pytest.fixture(scope="module")
def truth() -> Truth:
    """Four groups of cells, far apart, in ten dimensions."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, N_OBS).astype(str)
    X_pre = rng.normal(size=(N_OBS, 10)) + 6 * np.eye(4, 10)[label.astype(int)]
    empty = np.empty(0)
    return Truth(
        obs_names=np.arange(N_OBS).astype(str),
        label=label,
        batch=np.full(N_OBS, "b"),
        is_novel=np.zeros(N_OBS, dtype=bool),
        X_pre=X_pre,
        cell_cycle=empty,
        cell_cycle_batches=empty.astype(str),
        cell_cycle_before=empty,
        cell_cycle_reason="none",
    )


def check(truth: Truth, **arrays: np.ndarray) -> tuple[str, ...]:
    return check_rows_belong_to_cells("m", Outputs(obs_names=truth.obs_names, **arrays), truth)


def embeddings(truth: Truth) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "one dimension": truth.X_pre[:, :1],
        "labels only": np.eye(4)[truth.label.astype(int)] + rng.normal(scale=0.3, size=(N_OBS, 4)),
        "mostly noise": truth.X_pre + rng.normal(scale=5, size=truth.X_pre.shape),
        "every cell at one point": np.zeros((N_OBS, 2)),
    }


@pytest.mark.parametrize("name", ["one dimension", "labels only", "mostly noise", "every cell at one point"])
def test_a_poor_embedding_in_the_right_order_passes(truth, name: str) -> None:
    check(truth, X_emb=embeddings(truth)[name])


@pytest.mark.parametrize("name", ["one dimension", "labels only"])
@pytest.mark.parametrize("order", ["reversed", "random", "by label"])
def test_an_embedding_in_another_order_is_found(truth, name: str, order: str) -> None:
    orders = {
        "reversed": np.arange(N_OBS)[::-1],
        "random": np.random.default_rng(2).permutation(N_OBS),
        "by label": np.argsort(truth.label, kind="stable"),
    }
    with pytest.raises(ContractError, match="m: the rows bear no relation to the cells"):
        check(truth, X_emb=embeddings(truth)[name][orders[order]])


def test_poor_predictions_in_the_right_order_pass(truth) -> None:
    rng = np.random.default_rng(3)
    half_wrong = np.where(rng.random(N_OBS) < 0.5, truth.label, rng.permutation(truth.label))
    nearly_constant = np.full(N_OBS, "0")
    nearly_constant[rng.choice(N_OBS, 6, replace=False)] = "1"
    for label_pred in (truth.label, half_wrong, np.full(N_OBS, "0"), nearly_constant):
        check(truth, label_pred=label_pred)


def test_predictions_in_another_order_are_found(truth) -> None:
    for label_pred in (truth.label[::-1], np.sort(truth.label)):
        with pytest.raises(ContractError, match="picked at random"):
            check(truth, label_pred=label_pred)


def test_few_cells_are_not_judged(truth) -> None:
    few = Truth(
        **{
            name: getattr(truth, name)[:150] if name in {"obs_names", "label", "batch", "is_novel", "X_pre"}
            else getattr(truth, name)
            for name in Truth.__slots__
        }
    )  # fmt: skip
    check_rows_belong_to_cells("m", Outputs(obs_names=few.obs_names, X_emb=few.X_pre[::-1]), few)


NOISE = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "uniform": lambda rng, shape: rng.random(shape),
    "constant dimensions": lambda rng, shape: np.hstack([rng.normal(size=shape), np.ones((shape[0], 3))]),
}


@pytest.mark.parametrize("kind", NOISE)
@pytest.mark.parametrize("n_dims", [2, 10, 30])
@pytest.mark.parametrize("seed", range(3))
def test_noise_is_scored_in_whatever_order(truth, kind: str, n_dims: int, seed: int) -> None:
    """A variational autoencoder whose posterior collapsed gives samples of the prior."""
    X_emb = NOISE[kind](np.random.default_rng(seed), (N_OBS, n_dims)).astype(np.float32)
    notes = check(truth, X_emb=X_emb)
    # In one of a thousand draws, neighbours agree as often as those of a poor embedding.
    assert notes in ((NOTE,), ()), notes


def test_noise_gets_a_note(truth) -> None:
    assert check(truth, X_emb=np.random.default_rng(0).normal(size=(N_OBS, 10))) == (NOTE,)


def test_what_has_structure_is_no_noise(truth) -> None:
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(N_OBS, 10))
    time = rng.random(N_OBS)
    curve = np.column_stack([np.sin(7 * time), np.cos(7 * time)])
    group = rng.integers(0, 4, N_OBS)
    structured = {
        "groups": noise + 2 * np.eye(4, 10)[group],
        "two groups": noise + 3 * np.eye(2, 10)[group % 2],
        "a circle": curve + rng.normal(scale=0.1, size=curve.shape),
        "components": noise * np.linspace(3, 1, 10),
        "one dimension": noise[:, :1],
        "groups of equal spread": np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])[group] * [1.0, 1.0]
        + rng.normal(scale=0.2, size=(N_OBS, 2)) * (1 + group[:, None]),
    }
    assert [name for name, X_emb in structured.items() if is_noise(X_emb)] == []
    for name, X_emb in structured.items():
        with pytest.raises(ContractError, match="another order than obs_names, or the output has no info"):
            check(truth, X_emb=X_emb)
        assert name
