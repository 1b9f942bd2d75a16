"""Methods of the old result folder: one that works and keeps a file, and three that end otherwise.

Do not edit or format this file: its digest is part of the names of the runs.
"""

import time

import numpy as np

from cellular_bench import MethodSpec, Prediction


def spec(method_id, **more):
    given = {"tasks": ("annotation",), "labels": "train", "inductive": True, **more}
    return MethodSpec(method_id=method_id, name=method_id.replace("_", " ").title(), **given)


class ClassMeans:
    spec = spec("class_means", tasks=("annotation", "novelty"))
    artifacts = None

    def __init__(self, *, seed=0, shrink=0.0):
        self.shrink = shrink

    def fit(self, train):
        label = np.asarray(train.obs["label"], dtype=str)
        self.labels = np.unique(label)
        self.means = np.stack([train.X[label == name].mean(axis=0).A1 for name in self.labels])
        (self.artifacts / "labels.txt").write_text("\n".join(self.labels))

    def predict(self, query):
        distance = ((query.X.toarray()[:, None, :] - self.means[None]) ** 2).sum(axis=2)
        return Prediction(label_pred=self.labels[distance.argmin(axis=1)], novelty=distance.min(axis=1))


class Raises(ClassMeans):
    spec = spec("raises")

    def predict(self, query):
        print("about to fail")
        raise RuntimeError("no luck today")


class Sleeps(ClassMeans):
    spec = spec("sleeps")

    def predict(self, query):
        time.sleep(3600)


class NeedsMissing(ClassMeans):
    spec = spec("needs_missing", requires=("no_such_module", "sklearn"))
