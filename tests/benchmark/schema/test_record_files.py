"""Records are read in every version up to this one, and equal parts of many are held once."""

import json

import pytest

from cellular_bench.benchmark.schema.record_files import read_record, sharing, write_record
from cellular_bench.core.errors import UserError


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


def test_a_record_is_read_as_it_was_written(make, tmp_path):
    record = make("PCA", 0, {"ari": 0.5})
    write_record(record, tmp_path / "record.json")
    assert read_record(tmp_path / "record.json") == record


@pytest.mark.parametrize(
    ("name", "features", "given"),
    [("PCA", "hvg", None), ("PCA, all genes", "all", "all"), ("PCA, all genes", "hvg", None)],
)
def test_genes_that_a_method_was_given_are_in_its_name_in_version_1(make, tmp_path, name, features, given):
    fields = json.loads(make("PCA", 0, {"ari": 0.5}).model_dump_json())
    del fields["method"]["given_features"]
    fields["method"] |= {"name": name, "features": features}
    (tmp_path / "record.json").write_text(json.dumps(fields | {"schema_version": 1}))
    assert read_record(tmp_path / "record.json").method.given_features == given


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a run record: Expecting property name"),
        ("[]", "is not a run record: the top level: Input should be a valid dictionary"),
        ('{"schema_version": 0}', "is not a run record: "),
        ('{"schema_version": 1}', "is not a run record: "),
        ('{"schema_version": 1, "method": 3}', "is not a run record: "),
        ('{"schema_version": 9}', "was written by a newer cellular-bench .schema version 9"),
        (None, "cannot be read: No such file"),
    ],
)
def test_what_is_no_record_is_said_so(tmp_path, text, message):
    path = tmp_path / "record.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=f"record.json {message}"):
        read_record(path)
