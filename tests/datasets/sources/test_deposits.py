"""Data sets of deposits, fetched from a small server."""

import gzip
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.io import mmwrite

from cellular_bench.core.errors import DataError
from cellular_bench.core.files import cache_dir
from cellular_bench.core.types import DatasetSpec
from cellular_bench.datasets.catalog import load
from cellular_bench.datasets.sources import builders, deposits
from cellular_bench.datasets.sources.download import Options
from cellular_bench.datasets.sources.openers import fetch_source, open_source

COUNTS = np.array([[1, 0, 2, 0], [0, 3, 0, 1], [5, 0, 0, 0]])
GENES = ["ACTB", "GAPDH", "B2M", "INS"]
CONSENT = Options(allow_unverified=True, pause_s=0.01, attempts=2)


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    (tmp_path / "served").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path / "served")) as running:
        running.served = tmp_path / "served"
        running.url = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def described(builder: str, files: list[dict[str, object]], **more: object) -> DatasetSpec:
    source = {"kind": "download", "builder": builder, "verified": False, "files": files}
    fields = {"dataset_id": "mine", "title": "Mine", "label_key": "cell_type", "source": source} | more
    return DatasetSpec(**fields)


def tar_gz(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def mtx(tmp_path: Path, barcodes: list[str]) -> dict[str, bytes]:
    mmwrite(tmp_path / "m.mtx", sparse.coo_matrix(COUNTS.T))
    return {
        "filtered_matrices_mex/hg19/matrix.mtx": (tmp_path / "m.mtx").read_bytes(),
        "filtered_matrices_mex/hg19/barcodes.tsv": "\n".join(barcodes).encode(),
        "filtered_matrices_mex/hg19/genes.tsv": "\n".join(
            f"ENSG{i}\t{g}" for i, g in enumerate(GENES)
        ).encode(),
    }


def test_a_10x_archive_and_labels_by_barcode(server, tmp_path, cache):
    (server.served / "m.tar.gz").write_bytes(tar_gz(mtx(tmp_path, ["A-1", "B-1", "C-1"])))
    # In another order than the matrix, and one barcode without a cell.
    (server.served / "labels.tsv").write_text(
        "TSNE.1\tbarcodes\tcelltype\n0\tC-1\tB\n0\tX-1\tT\n0\tA-1\tNK\n"
    )
    files = [
        {"name": "m.tar.gz", "urls": [f"{server.url}/m.tar.gz"], "unpack": True},
        {"name": "labels.tsv", "urls": [f"{server.url}/labels.tsv"]},
    ]
    spec = described("tenx_with_labels", files)
    assert deposits.state(spec.source) == "missing"
    loaded = load(spec, options=CONSENT).adata
    assert loaded.obs["label"].to_dict() == {"A-1": "NK", "C-1": "B"}
    np.testing.assert_array_equal(loaded.layers["counts"].toarray(), COUNTS[[0, 2]])
    assert deposits.state(spec.source) == "cached"
    # What was built is kept: the archive is not read again.
    assert len(list((cache / "built").iterdir())) == 1
    assert load(spec, options=Options(offline=True)).adata.shape == (2, 4)


def test_sorted_populations_are_named_by_their_files(server, tmp_path):
    for name in ("b_cells", "cd34"):
        (server.served / f"{name}.tar.gz").write_bytes(tar_gz(mtx(tmp_path, ["A-1", "B-1", "C-1"])))
    files = [
        {"name": f"{name}_filtered.tar.gz", "urls": [f"{server.url}/{name}.tar.gz"], "unpack": True}
        for name in ("b_cells", "cd34")
    ]
    obs = load(described("tenx_sorted", files), options=CONSENT).adata.obs
    assert obs["label"].value_counts().to_dict() == {"b_cells": 3, "cd34": 3}
    assert obs.index[0] == "b_cells_A-1"


def test_baron_as_deposited(server):
    def table(shift: int) -> bytes:
        frame = pd.DataFrame(COUNTS + shift, columns=GENES, index=[f"cell{shift}_{i}" for i in range(3)])
        frame.insert(0, "barcode", "ACGT")
        frame.insert(1, "assigned_cluster", ["alpha", "beta", "beta"])
        return gzip.compress(frame.to_csv().encode())

    names = {f"GSM{i}_human{i}_umifm_counts.csv.gz": table(i) for i in (1, 2)}
    content = tar_gz({**names, "GSM9_mouse1_umifm_counts.csv.gz": b"not read"})
    (server.served / "raw.tar").write_bytes(content)
    files = [{"name": "raw.tar", "urls": [f"{server.url}/raw.tar"], "unpack": "human"}]
    loaded = load(described("baron_geo", files, batch_key="patientID"), options=CONSENT).adata
    assert loaded.obs["batch"].tolist() == ["human1"] * 3 + ["human2"] * 3
    assert loaded.obs["label"].tolist() == ["alpha", "beta", "beta"] * 2
    np.testing.assert_array_equal(loaded.layers["counts"].toarray(), np.vstack([COUNTS + 1, COUNTS + 2]))


def test_a_table_and_labels_by_name(server):
    frame = pd.DataFrame(COUNTS.T, index=GENES, columns=["P1_A", "P1_B", "P2_A"])
    (server.served / "d.csv.gz").write_bytes(gzip.compress(frame.to_csv().encode()))
    rows = ["CellName\tSample\tCell#\tCellType", "P2_A\tP2\t3\tHep", "P1_A\tP1\t1\tHep", "P1_B\tP1\t2\tNK"]
    labels = "\n".join(rows)
    (server.served / "l.txt.gz").write_bytes(gzip.compress(labels.encode()))
    files = [{"name": name, "urls": [f"{server.url}/{name}"]} for name in ("d.csv.gz", "l.txt.gz")]
    obs = load(described("table_with_labels", files, batch_key="patientID"), options=CONSENT).adata.obs
    assert obs["label"].tolist() == ["Hep", "NK", "Hep"]
    assert obs["batch"].tolist() == ["P1", "P1", "P2"]


def test_labels_of_other_cells_are_refused(tmp_path):
    (tmp_path / "m").mkdir()
    for name, content in mtx(tmp_path, ["A", "B", "C"]).items():
        (tmp_path / "m" / Path(name).name).write_bytes(content)
    (tmp_path / "l.tsv").write_text("barcodes\tcelltype\nX\tB\n")
    with pytest.raises(DataError, match="No cell of it has a label: its cells are called"):
        builders.tenx_with_labels({"m": tmp_path / "m", "l": tmp_path / "l.tsv"})
    (tmp_path / "l.tsv").write_text("cell\ttype\nX\tB\n")
    with pytest.raises(DataError, match="No table of labels with the column 'barcodes'"):
        builders.tenx_with_labels({"m": tmp_path / "m", "l": tmp_path / "l.tsv"})


@pytest.fixture
def deposit(server, adata, tmp_path) -> list[dict[str, object]]:
    """A deposit that lists its files as Zenodo does."""
    adata.write_h5ad(tmp_path / "x.h5ad")
    content = (tmp_path / "x.h5ad").read_bytes()
    (server.served / "content").write_bytes(content)
    import hashlib

    listed = {
        "key": "x.h5ad",
        "size": len(content),
        "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
        "links": {"self": f"{server.url}/content"},
    }
    (server.served / "record").write_text(json.dumps({"files": [listed]}))
    return [{"name": "x.h5ad", "listing": f"{server.url}/record"}]


def test_a_deposit_says_where_its_files_are_and_what_they_must_be(server, deposit):
    spec = described("h5ad", deposit, batch_key="donor")
    assert deposits.state(spec.source) == "deposited"
    with pytest.raises(DataError, match=r"x.h5ad was never looked up at .*/record, and --offline forbids it"):
        load(spec, options=Options(offline=True))
    # The listing has a checksum, so no consent is needed.
    assert load(spec).adata.shape == (6, 4)
    assert deposits.state(spec.source) == "cached"
    (server.served / "record").unlink()
    assert load(spec, options=Options(offline=True)).adata.shape == (6, 4)


def test_a_listing_whose_note_was_broken_off_is_asked_again(server, deposit):
    spec = described("h5ad", deposit, batch_key="donor")
    assert load(spec).adata.shape == (6, 4)
    (note,) = (cache_dir() / "listings").iterdir()
    note.write_text(note.read_text()[:20])
    assert deposits.state(spec.source) == "deposited"
    assert load(spec).adata.shape == (6, 4)
    assert deposits.state(spec.source) == "cached"


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        ("{}", "describes its files in a form that is not known"),
        ("not json", "Cannot ask .*/record for its files"),
        ('{"files": []}', "holds nothing, and not x.h5ad"),
        (None, "Cannot ask .*404"),
    ],
)
def test_deposits_that_do_not_say(server, deposit, listing, message):
    (server.served / "record").unlink()
    if listing is not None:
        (server.served / "record").write_text(listing)
    with pytest.raises(DataError, match=message):
        load(described("h5ad", deposit))


def test_one_file_of_an_archive_is_found_by_its_name(server, adata, tmp_path):
    adata.obs_names = ["0", "1", "2", "0", "1", "2"]
    adata.write_h5ad(tmp_path / "Muto_merged.h5ad")
    with zipfile.ZipFile(server.served / "data.zip", "w") as archive:
        archive.write(tmp_path / "Muto_merged.h5ad", "data/processed/kidney_cells/Muto_merged.h5ad")
        archive.writestr("data/processed/merged/merged_all.h5ad", b"another")
    entry = {"name": "data.zip", "urls": [f"{server.url}/data.zip"], "unpack": "Muto_merged.h5ad"}
    dataset = load(described("in_archive", [entry], batch_key="donor"), options=CONSENT)
    assert dataset.adata.shape == (6, 4)
    assert dataset.adata.obs_names.is_unique
    with pytest.raises(DataError, match=r"0 files of it are the one that is wanted \(data.zip.Absent.h5ad\)"):
        load(described("in_archive", [{**entry, "unpack": "Absent.h5ad"}]), options=CONSENT)


def test_files_to_prepare_by_hand_are_fetched_and_said_so(server):
    (server.served / "x.RData").write_bytes(b"R")
    spec = described("by_hand", [{"name": "x.RData", "urls": [f"{server.url}/x.RData"]}])
    (path,) = fetch_source(spec, options=CONSENT)
    assert path.read_bytes() == b"R"
    with pytest.raises(DataError, match="have to be prepared by hand: run-benchmark datasets info says how"):
        load(spec)


def test_entries_are_checked_before_anything_is_fetched():
    with pytest.raises(DataError, match=r"Unknown entry 'url'. Did you mean 'urls'"):
        open_source(described("h5ad", [{"name": "x", "url": "http://127.0.0.1:9/x"}]))
    with pytest.raises(DataError, match="it lacks the entry 'urls' or 'listing'"):
        open_source(described("h5ad", [{"name": "x"}]))
    with pytest.raises(DataError, match=r"Unknown builder 'h5'. Did you mean 'h5ad'"):
        open_source(described("h5", [{"name": "x", "urls": ["http://127.0.0.1:9/x"]}]))
