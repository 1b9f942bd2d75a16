"""Equal parts of many records are held once."""

from cellular_bench.benchmark.schema.records import sharing


def test_equal_parts_are_one_object_and_others_are_not(make):
    runs = [make("PCA", 0, {"ari": 0.5}), make("PCA", 1, {"ari": 0.6}), make("Harmony", 0, {"ari": 0.7})]
    found = list(sharing(runs))
    assert found == runs
    assert found[0].environment is found[1].environment is found[2].environment
    assert runs[0].environment is not runs[1].environment
    assert found[0].method is found[1].method
    assert found[0].method is not found[2].method
    assert found[0].split is found[2].split
    assert found[0].split != found[1].split
