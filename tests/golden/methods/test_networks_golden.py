"""scNym and ACTINN beside the originals: cells of one study labelled from others, with several seeds."""

import numpy as np
import pytest

from cellular_bench.core import keys
from cellular_bench.methods.actinn import ACTINN
from cellular_bench.methods.scnym import ScNym

#: Ours, two runs of the original, and how much below the agreement of these two ours may be.
CASES = {
    "scnym": (ScNym, ("scnym_sup.orig_new.0", "scnym_sup.orig_new.1"), 0.02),
    "actinn": (ACTINN, ("actinn.orig.3", "actinn.orig.4"), 0.05),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_ours_agrees_with_the_original_about_as_its_seeds_with_each_other(name, fidelity, shared):
    method, runs, slack = CASES[name]
    train, query = fidelity.golden_split("pbmc", shared)
    originals = [fidelity.golden_arrays(f"pbmc.{run}", shared)["pred"] for run in runs]
    truth = np.asarray(query.obs[keys.LABEL], dtype=str)
    del query.obs[keys.LABEL]
    found = method(seed=0).fit(train).predict(query).label_pred
    agreement = np.mean([fidelity.equal_share(found, original) for original in originals])
    assert agreement > fidelity.equal_share(*originals) - slack
    accuracies = [fidelity.equal_share(original, truth) for original in originals]
    assert fidelity.equal_share(found, truth) > min(accuracies) - slack
