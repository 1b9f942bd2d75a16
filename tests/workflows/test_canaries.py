"""``--canaries``: which rows it adds to a suite, and to which blocks."""

import pytest

from cellular_bench import UserError
from cellular_bench.benchmark import registry
from cellular_bench.benchmark.plan.planner import plan
from cellular_bench.benchmark.schema.suite import Suite, read_suite
from cellular_bench.workflows.requests import RunRequest
from cellular_bench.workflows.tailor import find_suite, tailored

KNOWN = registry.methods()
CANARIES = list(registry.built_in_canaries())


def methods_of(suite: Suite, **asked: object) -> dict[str, list[str]]:
    chosen = tailored(suite, RunRequest.of(**asked), dataset_ids=(), known=KNOWN)
    return {block.task: [choice.method_id for choice in block.methods] for block in chosen.blocks}


def test_canaries_and_what_they_damage_join_every_block_of_integration_once() -> None:
    suite = find_suite("quickstart")
    plain, more = methods_of(suite), methods_of(suite, canaries=True)
    assert set(plain["integration"]) >= {"harmony", "perfect_labels"}
    assert more["integration"][: len(plain["integration"])] == plain["integration"]
    assert set(more["integration"]) == {*plain["integration"], *CANARIES}
    assert len(more["integration"]) == len(set(more["integration"]))
    assert {task: more[task] for task in ("annotation", "novelty")} == {
        task: plain[task] for task in ("annotation", "novelty")
    }


def test_the_undamaged_method_comes_with_them() -> None:
    chosen = methods_of(find_suite("quickstart"), canaries=True, methods="pca")
    assert chosen == {"integration": ["pca", "harmony", *CANARIES]}
    changed = {"harmony": {"theta": 1.0}}
    again = methods_of(find_suite("quickstart"), canaries=True, methods="harmony", params=changed)
    assert again["integration"] == ["harmony", "harmony", *CANARIES], "once as asked, once as it is damaged"


def test_a_suite_may_ask_for_them_and_a_request_may_not(tmp_path) -> None:
    path = tmp_path / "own.toml"
    text = 'title = "Own"\ncanaries = true\n[[blocks]]\ntask = "{}"\ndatasets = ["baron"]\nmethods = ["{}"]\n'
    path.write_text(text.format("integration", "pca") + 'splits = ["all"]\n', encoding="utf-8")
    assert methods_of(read_suite(path))["integration"] == ["pca", "harmony", *CANARIES]
    assert methods_of(read_suite(path), canaries=False)["integration"] == ["pca"]
    path.write_text(text.format("annotation", "knn") + 'splits = ["all"]\n', encoding="utf-8")
    assert methods_of(read_suite(path)) == {"annotation": ["knn"]}


def test_canaries_without_integration_are_refused() -> None:
    with pytest.raises(
        UserError, match="--canaries adds embeddings to integration; you asked for annotation"
    ):
        methods_of(find_suite("quickstart"), canaries=True, tasks="annotation")


def test_a_canary_has_the_seed_of_the_method_that_it_damages(small) -> None:
    block = {
        "task": "integration",
        "datasets": list(small),
        "methods": ["harmony", *CANARIES, "scvi", "scvi_scarches"],
    }
    block |= {"splits": [{"kind": "kfold", "n_splits": 2}], "seeds": [0, 1]}
    block["methods"] = [name for name in block["methods"] if name in KNOWN]
    suite = Suite(suite_id="s", title="S", blocks=[block], leak_canary=False)
    runs = plan(suite, datasets=small, methods=KNOWN).runs
    seeds = {(run.method.method_id, run.split.split_id, run.seed): run.method_seed for run in runs}
    for (name, split, seed), found in seeds.items():
        is_damage = name in CANARIES and name != "perfect_labels"
        assert (found == seeds["harmony", split, seed]) == (is_damage or name == "harmony")
    assert len({seeds["harmony", split, seed] for _, split, seed in seeds}) == 4
