"""Figures: valid pictures, the same for the same seed, with words for those who do not see them."""

import io
from typing import Any

import numpy as np
import pytest

from cellular_bench.core.errors import UserError
from cellular_bench.reports.figures.confusion_and_training import confusion_figure, history_figure
from cellular_bench.reports.figures.embeddings import embedding_figure


@pytest.fixture
def cells() -> dict[str, Any]:
    """Sixty cells of fifteen labels in two batches, in two dimensions."""
    rng = np.random.default_rng(0)
    label = np.array([f"type {i % 15} with $a rather long name" for i in range(60)])
    return {"X_emb": rng.normal(size=(60, 2)), "label": label, "batch": np.array(["a", "b"] * 30)}


def _size(data: bytes) -> tuple[int, int]:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "WEBP"
        return image.size


def test_embedding_is_a_small_wide_picture_with_words(cells: dict[str, Any]) -> None:
    figure = embedding_figure(**cells, title="Harmony, fold 0")
    width, height = _size(figure.data)
    assert width > 1.5 * height > 600
    assert len(figure.data) < 150_000
    assert figure.kind == "embedding"
    assert (
        figure.caption == "Harmony, fold 0. Embedding (as it is, seed 0) of 60 cells, by label and by batch."
    )
    assert "15 labels" in figure.alt and "2 batches" in figure.alt


def test_a_large_set_is_subsampled_and_says_so(cells: dict[str, Any]) -> None:
    figure = embedding_figure(**cells, title="t", max_obs=40)
    assert "40 of 60 cells, drawn at random" in figure.caption


def test_same_seed_same_picture_and_global_state_untouched(cells: dict[str, Any]) -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]  # noqa: NPY002
    first, again, other = (embedding_figure(**cells, title="t", seed=s, max_obs=40).data for s in (1, 1, 2))
    assert first == again != other
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]  # noqa: NPY002


def test_drawing_opens_no_pyplot_figure(cells: dict[str, Any]) -> None:
    from matplotlib import pyplot as plt

    embedding_figure(**cells, title="t")
    confusion_figure({"a": {"a": 1}}, title="t")
    assert plt.get_fignums() == []


@pytest.mark.slow
def test_more_dimensions_go_through_umap_and_groups_stay_apart() -> None:
    from cellular_bench.reports.figures.embeddings import two_dimensions

    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 60)
    X = rng.normal(size=(120, 10)) + 30 * label[:, None]
    points = two_dimensions(X, seed=0)
    assert points.shape == (120, 2)
    centres = np.array([points[label == k].mean(axis=0) for k in (0, 1)])
    spread = max(points[label == k].std(axis=0).max() for k in (0, 1))
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * spread
    np.testing.assert_array_equal(points, two_dimensions(X, seed=0))
    assert two_dimensions(X[:6], seed=0).shape == (6, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X_emb": np.zeros((3, 2))}, "shape \\(3, 2\\)"),
        ({"X_emb": np.zeros(60)}, "2 or more dimensions"),
        ({"label": ["a"] * 59}, "label has shape \\(59,\\), X_emb wants \\(60,\\)"),
        ({"X_emb": np.full((60, 2), np.nan)}, "not finite"),
    ],
)
def test_wrong_input_is_named(cells: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        embedding_figure(**(cells | changes), title="t")


def test_confusion_tells_the_diagonal_and_the_worst_error() -> None:
    figure = confusion_figure(
        {"a": {"a": 8, "b": 2}, "b": {"b": 5, "": 4, "z": 1}, "unused": {}},
        title="SciBet",
    )
    assert figure.alt == (
        "Confusion matrix of SciBet: 13 of 20 cells lie on the diagonal. "
        "Most frequent error: 4 cells of b rejected."
    )
    assert min(_size(figure.data)) > 300


def test_confusion_without_errors_and_without_cells() -> None:
    assert confusion_figure({"a": {"a": 3}}, title="t").alt.endswith("No cell is off it.")
    with pytest.raises(UserError, match="holds no cell"):
        confusion_figure({"a": {}}, title="t")


def _history(losses: list[float], **parts: list[float]) -> dict[str, Any]:
    def part(values: list[float]) -> dict[str, Any]:
        epochs = [
            {"epoch": i, "train": {"total": v - 0.1}, "validation": {"total": v}}
            for i, v in enumerate(values)
        ]
        return {"epochs": epochs, "best_epoch": int(np.argmin(values))}

    return {"encoder": part(losses), **{name: part(values) for name, values in parts.items()}}


def test_history_says_which_epoch_was_kept() -> None:
    histories = {
        "fold 1": _history([3.0, 1.0, 2.0]),
        "fold 2": _history([3.0, 2.0], classifier=[1.0, 0.5]),
    }
    figure = history_figure(histories, title="CELLULAR, 2 runs")
    assert figure.kind == "history"
    assert figure.alt == (
        "Loss curves of CELLULAR, 2 runs. Epoch kept, of epochs trained: "
        "fold 1: encoder 1 of 3; fold 2: encoder 1 of 2, classifier 1 of 2."
    )
    wide, _ = _size(figure.data)
    narrow, _ = _size(history_figure({"fold 1": histories["fold 1"]}, title="t").data)
    assert narrow < wide, "a panel for each network and term"


def test_history_of_many_runs_is_summed_up() -> None:
    histories = {f"run {i}": _history([9.0 - i] * i + [1.0]) for i in range(8)}
    alt = history_figure(histories, title="CELLULAR, 8 runs").alt
    assert alt == "Loss curves of CELLULAR, 8 runs. Epoch kept in 8 runs: encoder 0 to 7."


def test_history_draws_validation_solid_and_training_dotted() -> None:
    from matplotlib.figure import Figure as Canvas

    from cellular_bench.reports.figures.confusion_and_training import draw_losses

    ax = Canvas().subplots()
    draw_losses(ax, _history([3.0, 1.0, 2.0])["encoder"], "total", colour="k")
    train, validation, kept = ax.lines
    assert (train.get_linestyle(), validation.get_linestyle()) == (":", "-")
    np.testing.assert_allclose(train.get_ydata(), [2.9, 0.9, 1.9])
    np.testing.assert_allclose(validation.get_ydata(), [3.0, 1.0, 2.0])
    assert (kept.get_xdata()[0], kept.get_ydata()[0]) == (1, 1.0)


def test_history_without_an_epoch_is_refused() -> None:
    with pytest.raises(UserError, match="hold no epoch"):
        history_figure({"fold 1": {"encoder": {"epochs": [], "best_epoch": -1}}}, title="t")
