"""A method that sends a signal to a process of the harness at a stage of its run."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from cellular_bench import MethodSpec, Prediction
from cellular_bench.benchmark.execution import worker
from cellular_bench.benchmark.isolation import marks


class Signals:
    """Says the first label; before, at ``stage``, ``number`` goes to ``target``."""

    spec = MethodSpec(
        method_id="signals", name="Signals", tasks=("annotation",), labels="train", inductive=True
    )

    def __init__(self, *, seed=0, stage="none", target="supervisor", number="SIGTERM"):
        self.stage, self.target, self.number = stage, target, getattr(signal, number)
        if stage == "end":
            worker.mark = self.mark
        self.at("construct")

    def fit(self, train):
        self.label = str(train.obs["label"].iloc[0])
        self.at("fit")

    def predict(self, query):
        if self.stage == "daemon" and os.fork() == 0:
            os.setsid()
            self.send()
            time.sleep(3600)
        self.at("predict")
        if self.stage != "none":
            time.sleep(0.5)
        return Prediction(label_pred=np.full(query.n_obs, self.label))

    def mark(self, name):
        marks.mark(name)
        if name == "end":
            self.at("end")

    def at(self, stage):
        if stage == self.stage:
            self.send()

    def send(self):
        for pid in targets(self.target):
            try:
                os.kill(pid, self.number)
            except OSError as error:
                print(error, file=sys.stderr)


def targets(name):
    """Return the processes of the harness with a name."""
    parent = os.getppid()
    if name == "supervisor":
        return [parent]
    if name == "group":
        return [0]
    try:
        server = psutil.Process(parent).ppid()
        harness = psutil.Process(server).ppid()
        if name == "server":
            return [server]
        if name == "tracker":
            found = psutil.Process(harness).children()
            return [one.pid for one in found if "resource_tracker" in " ".join(one.cmdline())]
    except psutil.Error:
        pass
    return []


if os.environ.get("SIGNAL_AT_IMPORT") and Path.cwd().name == "work":
    os.kill(os.getppid(), getattr(signal, os.environ["SIGNAL_AT_IMPORT"]))
