"""A method that corrects batches and returns principal components as they were gets a note."""

import numpy as np
import pytest

import cellular_bench
from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution.preparation import Truth
from cellular_bench.benchmark.execution.scoring import UNCHANGED, notes_on_correction
from cellular_bench.core.outputs import Outputs
from cellular_bench.methods.harmony import run_harmony

N_OBS = 300
BATCH = np.repeat(["one", "two"], N_OBS // 2)


def truth_of(X_pre: np.ndarray) -> Truth:
    n_obs, empty = len(X_pre), np.empty(0)
    return Truth(
        obs_names=np.arange(n_obs).astype(str),
        label=np.full(n_obs, "type"),
        batch=BATCH[:n_obs],
        is_novel=np.zeros(n_obs, dtype=bool),
        X_pre=X_pre,
        cell_cycle=empty,
        cell_cycle_batches=empty.astype(str),
        cell_cycle_before=empty,
        cell_cycle_reason="none",
    )


def notes(X_pre: np.ndarray, **arrays: np.ndarray) -> tuple[str, ...]:
    truth = truth_of(X_pre)
    return notes_on_correction(Outputs(obs_names=truth.obs_names, **arrays), truth)


def components(seed: int, *, apart: float = 3.0) -> np.ndarray:
    """Scores of 20 components, the first of which separates two batches."""
    rng = np.random.default_rng(seed)
    return np.linspace(4, 1, 20) * rng.normal(size=(N_OBS, 20)) + apart * np.outer(
        BATCH == "two", np.eye(20)[0]
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_dims", [5, 20])
def test_components_as_they_were_are_found_whatever_their_signs_scale_and_axes(
    seed: int, n_dims: int
) -> None:
    X_pre = components(seed)
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(n_dims, n_dims)))
    kept = X_pre[:, :n_dims]
    slightly = rng.normal(scale=2e-4 * np.abs(kept).max(), size=kept.shape)
    for X_emb in (kept, -kept, 0.01 * kept, kept @ axes + 7, kept + slightly):
        assert notes(X_pre, X_emb=X_emb.astype(np.float32)) == (UNCHANGED,)


@pytest.mark.parametrize("seed", range(3))
def test_what_was_changed_gets_no_note(seed: int) -> None:
    X_pre = components(seed)
    means = np.array([X_pre[name == BATCH].mean(axis=0) for name in ("one", "two")])
    rng = np.random.default_rng(seed)
    changed = {
        "batches centred": X_pre - means[(BATCH == "two").astype(int)],
        "unit variance": X_pre / X_pre.std(axis=0),
        "some noise": X_pre + rng.normal(scale=0.3, size=X_pre.shape),
        "one point": np.ones((N_OBS, 3)),
    }
    assert [name for name, X_emb in changed.items() if notes(X_pre, X_emb=X_emb)] == []


def test_only_embeddings_of_enough_cells_are_compared() -> None:
    X_pre = components(0)
    for n_obs, found in ((17, (UNCHANGED,)), (16, ()), (1, ())):
        assert notes(X_pre[:n_obs], X_emb=X_pre[:n_obs]) == found
    assert notes(X_pre, label_pred=BATCH) == ()


@pytest.mark.parametrize("seed", range(3))
def test_harmony_leaves_batches_that_lie_far_apart_and_says_so(seed: int) -> None:
    """Each cluster then has cells of one batch, whatever the number of clusters."""
    far, near = components(seed, apart=40.0) - 20 * np.eye(20)[0], components(seed, apart=3.0)
    moved = {name: run_harmony(X, BATCH, seed=seed) for name, X in {"far": far, "near": near}.items()}
    of_one_batch = [moved["far"].R[name == BATCH].sum(axis=0) for name in ("one", "two")]
    assert np.min(of_one_batch, axis=0).max() < 0.01
    assert notes(far, X_emb=moved["far"].Z_corr) == (UNCHANGED,)
    assert notes(near, X_emb=moved["near"].Z_corr) == ()
    assert notes(far, X_emb=run_harmony(far, BATCH, theta=20.0, seed=seed).Z_corr) == ()


KEEPS = """
from cellular_bench import MethodSpec
from cellular_bench.methods.pca import PCA

class Keeps(PCA):
    spec = MethodSpec(method_id="keeps", name="Keeps", tasks=("integration",), needs_batches=True)
"""


def test_a_record_has_the_note_if_the_method_corrects_batches(tmp_path) -> None:
    (tmp_path / "keeps.py").write_text(KEEPS)
    results = cellular_bench.run(
        methods=tmp_path / "keeps.py", tasks="integration", datasets="simulated_small", split="all",
        out=tmp_path / "out", quiet=True,
    )  # fmt: skip
    assert [record.notes for record in results.records] == [(UNCHANGED,)]
    assert f"Keeps: {UNCHANGED}" in (tmp_path / "out" / "leaderboard.html").read_text()


def test_principal_components_are_no_correction() -> None:
    assert not registry.method("pca").spec.needs_batches
    assert registry.method("harmony").spec.needs_batches
