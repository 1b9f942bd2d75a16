"""The rankings that Open Problems publishes, from its own lists by its own rule."""

from collections import defaultdict
from statistics import fmean

import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.external import open_problems
from cellular_bench.benchmark.external.rank_comparison import ways


@pytest.fixture(scope="module", params=["batch_integration", "label_projection"])
def published(shared, request):
    """The lists of a task."""
    folder = shared / "golden" / "peer_fixtures"
    return open_problems.read(sorted(folder.glob(f"openproblems_{request.param}_*.json.gz")))


def _order(scores):
    return sorted(scores, key=lambda key: (-scores[key], key))


def test_the_ranking_by_their_rule_is_theirs(published):
    runs = open_problems.records(published)
    assert open_problems.check(published, runs) < 1e-3
    theirs = defaultdict(dict)
    for result in published.results:
        if result["dataset_id"] is not None:
            theirs[result["dataset_id"].rpartition("/")[2]][result["method_id"]] = result["mean_score"]
    assert len(theirs) == 6
    ours = open_problems.their_scores(runs)
    for dataset_id, scores in theirs.items():
        assert _order({key: ours[key][dataset_id] for key in scores}) == _order(scores)
    means = {key: fmean(scores[key] for scores in theirs.values()) for key in ours}
    assert _order({key: fmean(found.values()) for key, found in ours.items()}) == _order(means)


def test_what_moves_bbknn_between_the_rules_is_what_it_lacks(shared):
    folder = shared / "golden" / "peer_fixtures"
    published = open_problems.read(sorted(folder.glob("openproblems_batch_integration_*.json.gz")))
    runs = open_problems.records(published)
    found = {way.method_id: way for way in ways(build_boards(runs, registry.metrics().values()), runs)}
    bbknn, scanvi = found["bbknn"], found["scanvi"]
    assert (scanvi.ranks[0], bbknn.ranks[0], bbknn.ranks[1]) == (1, 11, 1)
    assert "no Cell-cycle conservation" in bbknn.reason
    assert bbknn.our_rank is None
