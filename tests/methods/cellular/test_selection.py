"""Which epoch is kept, and which settings of the classifier: the validation loss, and the search."""

import json

import numpy as np
import pytest

from cellular_bench.methods.cellular import Cellular, CellularMethod
from cellular_bench.methods.cellular import tuning as tuning_module
from cellular_bench.methods.cellular.settings import ClassifierSettings

QUICK = {
    "max_epochs": 2,
    "classifier_max_epochs": 3,
    "batch_size": 64,
    "classifier": ClassifierSettings(hidden=(64, 64)),
    "tuning_widths": (64, 256),
}


def _fit(adata, **arguments) -> Cellular:
    return Cellular(**{**QUICK, **arguments}).fit(adata, label_key="label", batch_key="batch")


def _type_losses(X_emb: np.ndarray, label: np.ndarray, temperature: float) -> np.ndarray:
    """Return -log(P / (P + N)) of each cell, written cell by cell."""
    unit = X_emb / np.linalg.norm(X_emb, axis=1, keepdims=True)
    similarity = np.exp(unit @ unit.T / temperature)
    losses = []
    for i in range(len(label)):
        near = similarity[i][(label == label[i]) & (np.arange(len(label)) != i)].sum()
        losses.append(-np.log(near / (near + similarity[i][label != label[i]].sum())))
    return np.array(losses)


@pytest.fixture
def uneven(train):
    """Types of 120, 118, 110... cells, and one of 20."""
    label = train.obs["label"].to_numpy()
    return train[(label != "type4") | (np.cumsum(label == "type4") <= 20)].copy()


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_validation_counts_cells_alike_by_default_and_rare_types_first_in_the_study(uneven, preset):
    model = _fit(uneven, preset=preset, max_epochs=1, batch_size=256, n_trials=0)
    fitted = model._fitted
    rows = fitted.validation_rows
    label = fitted.train_label[rows]
    losses = _type_losses(fitted.train_emb[rows].astype(float), label, fitted.encoder.temperature.item())
    means = np.array([losses[label == code].mean() for code in range(5)])
    rarity = 1 / np.bincount(fitted.train_label[fitted.train_rows])
    expected = losses.mean() if preset == "default" else (means * rarity / rarity.sum()).sum()
    assert model.history.epochs[0].validation["type"] == pytest.approx(expected, rel=1e-4)
    assert abs(losses.mean() / (means * rarity / rarity.sum()).sum() - 1) > 0.02  # the two differ here


@pytest.fixture
def few(train):
    """Few cells: for speed."""
    return train[:120].copy()


@pytest.fixture
def trained(monkeypatch):
    """Count the trials: one entry for each classifier that the search trains."""
    calls = []
    train_classifier = tuning_module.train_classifier

    def counted(*args, **kwargs):
        calls.append(kwargs["classifier"])
        return train_classifier(*args, **kwargs)

    monkeypatch.setattr(tuning_module, "train_classifier", counted)
    return calls


def _states(path) -> dict[str, list[str]]:
    """Return the states of the trials of each search in a file."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(path)))
    names = optuna.study.get_all_study_names(storage)
    studies = {name: optuna.load_study(study_name=name, storage=storage) for name in names}
    return {name: [trial.state.name for trial in study.trials] for name, study in studies.items()}


def test_tuning_repeats_itself_and_improves_on_its_first_trial(few, query):
    import optuna

    before = optuna.logging.get_verbosity()
    # The sampler's seed makes the first trial of every search the same point.
    one, three, again = (_fit(few, n_trials=n_trials) for n_trials in (1, 3, 3))
    np.testing.assert_array_equal(three.predict_proba(query), again.predict_proba(query))
    np.testing.assert_array_equal(three.embed(query), one.embed(query))
    first, best = (
        min(epoch.validation["total"] for epoch in model.classifier_history.epochs) for model in (one, three)
    )
    assert best <= first
    assert optuna.logging.get_verbosity() == before


def test_an_interrupted_search_goes_on_where_it_was(few, query, trained, tmp_path, monkeypatch):
    file = tmp_path / "new" / "tuning.journal"
    counted = tuning_module.train_classifier

    def interrupted(*args, **kwargs):
        if len(trained) == 2:
            raise KeyboardInterrupt
        return counted(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tuning_module, "train_classifier", interrupted)
        _fit(few, n_trials=4, tuning_storage=file)
    model = _fit(few, n_trials=4, tuning_storage=file)
    assert len(trained) == 4
    assert len(set(map(str, trained))) == 4, "no point is drawn twice"
    again = _fit(few, n_trials=4, tuning_storage=file)
    assert len(trained) == 4, "a finished search has nothing left to do"
    np.testing.assert_array_equal(again.predict_proba(query), model.predict_proba(query))
    (states,) = _states(file).values()
    assert states.count("COMPLETE") + states.count("PRUNED") == 4


def test_the_search_keeps_to_its_widths_and_a_saved_model_remembers_them(few, trained, tmp_path):
    model = _fit(few, n_trials=6, tuning_widths=(128, 192))
    assert {width for point in trained for width in point.hidden} == {128, 192}
    model.save(tmp_path / "model")
    assert Cellular.load(tmp_path / "model").settings == model.settings


def test_another_embedding_starts_another_search(few, trained, tmp_path):
    for seed in (0, 1):
        _fit(few, n_trials=1, seed=seed, tuning_storage=tmp_path / "tuning.journal")
    assert len(trained) == 2
    assert len(_states(tmp_path / "tuning.journal")) == 2


@pytest.mark.parametrize(("preset", "pruned"), [("default", True), ("paper", False)])
def test_poor_trials_end_early_by_default_and_never_in_the_study(few, preset, pruned, tmp_path, capsys):
    file = tmp_path / "tuning.journal"
    _fit(few, preset=preset, n_trials=8, classifier_max_epochs=7, tuning_storage=file, progress=True)
    (states,) = _states(file).values()
    assert ("PRUNED" in states) is pruned
    line = f"cellular: 8 of 8 trials ({states.count('PRUNED')} ended early), lowest validation loss "
    assert line in capsys.readouterr().out


def test_the_study_searches_a_hundred_times_and_the_default_not():
    assert Cellular(preset="paper").settings.n_trials == 100
    assert Cellular().settings.n_trials == 0
    assert Cellular(preset="paper").settings.tuning_widths == (64, 2048)
    assert Cellular(n_trials=7).settings.n_trials == 7


def test_a_folder_lent_by_the_harness_gets_history_and_trials(few, query, tmp_path):
    method = CellularMethod(max_epochs=2, n_trials=1)
    method.artifacts = tmp_path
    method.fit(few)
    written = json.loads((tmp_path / "history.json").read_text())
    assert list(written) == ["encoder"]
    assert [epoch["validation"] for epoch in written["encoder"]["epochs"]] == [
        dict(epoch.validation) for epoch in method.model.history.epochs
    ]
    method.predict(query)
    written = json.loads((tmp_path / "history.json").read_text())
    assert written["classifier"]["best_epoch"] == method.model.classifier_history.best_epoch
    assert len(_states(tmp_path / "tuning.journal")) == 1
