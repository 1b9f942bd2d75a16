"""What tells data of one name apart, in as few words as do."""

import pytest

from cellular_bench.benchmark.analysis.data_versions import version_names
from cellular_bench.benchmark.schema.records import DatasetIdentity


def data(digest: str, dataset_id: str = "my", **counts: int) -> DatasetIdentity:
    fields = {"n_obs": 1200, "n_vars": 50, "n_batches": 2, "n_labels": 4} | counts
    return DatasetIdentity(dataset_id=dataset_id, title="my.h5ad", digest=digest * 64, **fields)


@pytest.mark.parametrize(
    ("versions", "names"),
    [
        ([data("a")], [""]),
        ([data("a"), data("a")], [""]),
        ([data("a", n_obs=300, n_labels=3), data("b")], ["300 cells", "1,200 cells"]),
        ([data("a", n_labels=1), data("b")], ["1 label", "4 labels"]),
        ([data("a", n_vars=9), data("b")], ["9 genes", "50 genes"]),
        ([data("a", n_batches=1), data("b")], ["1 batch", "2 batches"]),
        ([data("a"), data("b")], ["digest aaaaaaaaaa", "digest bbbbbbbbbb"]),
        (
            [data("a", n_obs=300), data("b"), data("c", n_labels=9)],
            ["300 cells, 4 labels", "1,200 cells, 4 labels", "1,200 cells, 9 labels"],
        ),
        ([data("a", n_obs=0), data("b")], ["digest aaaaaaaaaa", "digest bbbbbbbbbb"]),
    ],
)
def test_the_counts_that_differ_tell_them_apart(versions: list[DatasetIdentity], names: list[str]) -> None:
    found = version_names([*versions, data("c", "other", n_obs=7)])
    expected = {("my", one.digest): name for one, name in zip(versions, names, strict=False)}
    assert found == {**expected, ("other", "c" * 64): ""}
