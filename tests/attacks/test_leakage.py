"""Attacks on the labels of scored cells, by methods, in every isolation that works here."""

import ctypes
import os
import shutil
import site
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cellular_bench.benchmark.analysis.leaderboard import build_boards, method_key
from cellular_bench.metrics import METRICS

#: A method that knows nothing says the most frequent label (.40) or labels at random (.30): six deviations.
MOST_BY_CHANCE = 0.57
HERE = Path(__file__).parent
TABLE = tomllib.loads((HERE / "attacks.toml").read_text(encoding="utf-8"))["attack"]
ROWS = {row["method"]: row for row in TABLE if "method" in row and row["test"].endswith("on_labels")}
#: The best way to keep methods apart, and the others, which take minutes.
KINDS = ("namespaces", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("landlock", "process")))


@pytest.fixture(scope="module")
def spied(
    attack: Callable[..., Any], accomplice: Any, telling: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Any]]:
    """Let all spies run in a kind of isolation, once."""
    known: dict[str, Any] = {}
    folder = tmp_path_factory.mktemp("spies")
    telling.adata.write_h5ad(folder / "mine.h5ad")
    os.mkfifo(folder / "pipe")
    keys: list[int] = []

    def run(kind: str) -> Any:
        if kind not in known:
            own = folder / kind
            own.mkdir()
            plugin = Path(shutil.copy(HERE / "plugins" / "spies.py", own))
            keys.append(0x5EC0DE00 + len(known) * 7 + os.getpid() % 10_000 * 64)
            write_facts(own, accomplice, folder, keys[-1])
            try:
                known[kind] = attack(
                    own / "out",
                    ["true_labels", *ROWS],
                    plugin,
                    kind=kind,
                    n_jobs=1,
                    leak_canary=kind == "process",
                )
            finally:
                forget(accomplice.token, keys)
        return known[kind]

    yield run


def write_facts(own: Path, accomplice: Any, folder: Path, key: int) -> None:
    """Write down where the harness and the user's files are, for the spies in a folder."""
    here = {
        "OUT": str(own / "out"),
        "TOKEN": accomplice.token,
        "USER_FILE": str(folder / "mine.h5ad"),
        "HARNESS": os.getpid(),
        "PORT": accomplice.port,
        "UDP_PORT": accomplice.udp_port,
        "SOCKET": str(accomplice.folder / "socket"),
        "PIPE": str(folder / "pipe"),
        "SHM_KEY": key,
    }
    text = "\n".join(f"{name} = {value!r}" for name, value in here.items())
    (own / "spies_here.py").write_text(text)


def forget(token: str, keys: list[int]) -> None:
    """Delete what spies left where nobody else does."""
    places = [Path("/var/tmp"), Path("/dev/shm"), Path.home(), Path(site.getsitepackages()[0])]
    for path in (path for place in places for path in place.glob(f"remembered-{token}.json")):
        path.unlink()
    libc = ctypes.CDLL(None)
    for key in keys:
        shared = libc.shmget(key, 0, 0)
        if shared >= 0:
            libc.shmctl(shared, 0, None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ROWS)
def test_attack_on_labels(spied: Callable[[str], Any], kind: str, method: str) -> None:
    done = spied(kind)
    records = done.of(method)
    assert [record.status for record in records] == ["ok", "ok"], [record.reason for record in records]
    accuracy = max(record.value("accuracy") for record in records)
    found = accuracy > MOST_BY_CHANCE or any("FOUND" in done.log(record) for record in records)
    outcome = ROWS[method]["outcome"]
    expected = outcome if isinstance(outcome, str) else outcome[kind]
    assert found == (expected == "documented"), f"accuracy {accuracy:.3f}: {done.log(records[0])}"


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name, row in ROWS.items() if "canary" in row])
def test_what_gets_through_without_a_sandbox_is_flagged_by_the_leak_canary_or_not_as_is_said(
    spied: Callable[[str], Any], method: str
) -> None:
    (board,) = build_boards(spied("process").store.every_record(), METRICS.values())
    (row,) = [row for row in board.rows if row.method.method_id == method]
    assert board.canary is not None
    assert (board.canary.verdict(method_key(row.method)) == "flagged") == (
        ROWS[method]["canary"] == "flagged"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_attack_on_the_name_of_a_held_out_type(
    attack: Callable[..., Any],
    accomplice: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """It is in the names of splits and runs, and on the command line."""
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--split", "unseen_label:labels=Betaqcell"])
    write_facts(tmp_path, accomplice, tmp_path, 1)
    plugin = Path(shutil.copy(HERE / "plugins" / "spies.py", tmp_path))
    split = {"kind": "unseen_label", "labels": ["Betaqcell"], "n_splits": 2}
    done = attack(tmp_path / "out", ["held_out_name"], plugin, kind=kind, task="novelty", split=split)
    records = done.of("held_out_name")
    assert [record.split.unseen_labels for record in records] == [("Betaqcell",)] * len(records)
    assert "Betaqcell" in records[0].run_id
    assert [done.log(record) for record in records] == [""] * len(records)
