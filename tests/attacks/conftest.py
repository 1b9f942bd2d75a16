"""What attacks are made on: cells that are sorted by type and named after it, and a harness."""

import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution.executor import Executor
from cellular_bench.benchmark.isolation import sandbox
from cellular_bench.benchmark.plan.planner import plan
from cellular_bench.benchmark.results.store import RUN_LOG, Store
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.core.types import Dataset
from cellular_bench.datasets import catalog
from cellular_bench.datasets.contract import digest

LABELS = {"type1": "Alphaqcell", "type2": "Betaqcell", "type3": "Gammaqcell", "type4": "Deltaqcell"}
KFOLD: Mapping[str, Any] = {"kind": "kfold", "n_splits": 2}


@dataclass(frozen=True)
class Done:
    """The records of a benchmark, by method and split, and its folder."""

    store: Store
    records: Mapping[tuple[str, str], RunRecord]
    canaries: Mapping[str, RunRecord]

    def of(self, method_id: str) -> list[RunRecord]:
        return [record for (name, _), record in self.records.items() if name == method_id]

    def log(self, record: RunRecord) -> str:
        return (self.store.run_folder(record.run_id) / RUN_LOG).read_text(errors="replace")


def sorted_by_type(dataset: Dataset) -> Dataset:
    adata = dataset.adata[np.argsort(dataset.adata.obs["label"].astype(str), kind="stable")].copy()
    adata.obs["label"] = adata.obs["label"].cat.rename_categories(LABELS)
    letters = np.random.default_rng(5).choice(list("ACGT"), size=(adata.n_obs, 12))
    adata.obs_names = [
        f"{label}_{''.join(row)}" for label, row in zip(adata.obs["label"], letters, strict=True)
    ]
    return replace(dataset, adata=adata, digest=digest(adata))


@pytest.fixture(scope="session")
def telling() -> Dataset:
    """Cells of four types, sorted by type and named after it."""
    return sorted_by_type(catalog.load(catalog.specs()["simulated_small"]))


@pytest.fixture(scope="session")
def isolated_by() -> Callable[[str], AbstractContextManager[None]]:
    """Return a context in which runs are kept apart in one way; skip where this machine has it not."""

    @contextmanager
    def choose(kind: str) -> Iterator[None]:
        missing = sandbox.best().missing
        if kind in missing:
            pytest.skip(f"{kind}: {missing[kind]}")
        found = sandbox.Found(kind=kind, description="chosen by a test", missing=missing)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sandbox, "best", lambda: found)
            yield

    return choose


@pytest.fixture(scope="session")
def attack(isolated_by: Any, telling: Dataset, silent: Any) -> Callable[..., Done]:
    """Carry out methods of plug-ins on the telling cells, in one way of isolation."""

    def run(
        root: Path,
        methods: list[Any],
        *plugins: Path,
        kind: str,
        task: str = "annotation",
        split: Any = KFOLD,
        n_jobs: int = 2,
        leak_canary: bool = False,
        dataset: Dataset = telling,
        **limits: float,
    ) -> Done:
        name = dataset.spec.dataset_id
        block = {"task": task, "datasets": [name], "methods": methods, "splits": [split]}
        suite = Suite(
            suite_id="attack", title="Attack", blocks=[block], limits=limits, leak_canary=leak_canary
        )
        with isolated_by(kind):
            made = plan(suite, datasets={name: dataset}, methods=registry.methods(plugins), plugins=plugins)
            if kind == "process":
                made = made.without_sandbox()
            store = Store.create(root, made.suite)
            executor = Executor(store=store, n_jobs=n_jobs)
            found = list(executor.execute(made, datasets={name: dataset}, progress=silent))
        return Done(
            store=store,
            records={(one.method.method_id, one.split.split_id): one for one in found},
            canaries={one.method.method_id: one for one in store.every_record() if one.is_canary},
        )

    return run


class Accomplice:
    """Knows the label of every cell by its values, and answers whoever asks, in four ways."""

    def __init__(self, folder: Path, token: str, dataset: Dataset) -> None:
        rows = dataset.adata.layers["counts"].toarray().astype(np.float32)
        labels = np.asarray(dataset.adata.obs["label"], dtype=str).tolist()
        self.label = dict(zip((row.tobytes().hex()[:2000] for row in rows), labels, strict=True))
        self.folder, self.token = folder, token
        self.port = self.udp_port = 0

    def __enter__(self) -> "Accomplice":
        self._open = ExitStack()
        tcp = socket.create_server(("127.0.0.1", 0))
        self.port = tcp.getsockname()[1]
        servers = [tcp]
        for address in (str(self.folder / "socket"), "\0" + self.token):
            server = socket.socket(socket.AF_UNIX)
            server.bind(address)
            server.listen(20)
            servers.append(server)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        self.udp_port = udp.getsockname()[1]
        for server in (*servers, udp):
            self._open.enter_context(server)
        for server in servers:
            threading.Thread(target=self._serve, args=(server,), daemon=True).start()
        threading.Thread(target=self._serve_datagrams, args=(udp,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def _serve(self, server: socket.socket) -> None:
        with suppress(OSError, ValueError):
            while True:
                client, _ = server.accept()
                with client, client.makefile("rw") as talk:
                    talk.write(json.dumps([self.label.get(key, "") for key in json.loads(talk.readline())]))
                    talk.write("\n")

    def _serve_datagrams(self, udp: socket.socket) -> None:
        with suppress(OSError):
            while True:
                key, client = udp.recvfrom(4096)
                udp.sendto(self.label.get(key.decode(), "").encode(), client)


@pytest.fixture(scope="session")
def accomplice(tmp_path_factory: pytest.TempPathFactory, telling: Dataset) -> Iterator[Accomplice]:
    """Somebody who knows the labels and listens outside."""
    with tempfile.TemporaryDirectory() as folder:  # a short name, for a socket
        token = f"token{np.random.SeedSequence().entropy}"[:30]
        with Accomplice(Path(folder), token, telling) as made:
            yield made
