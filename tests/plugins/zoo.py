"""A healthy method and many broken ones, as a plug-in file."""

import os
import sys
import time
from pathlib import Path

import numpy as np

from cellular_bench import Corrected, Graph, MethodSpec, NotApplicableError, Prediction


def spec(method_id, **more):
    given = {"tasks": ("annotation",), "labels": "train", "inductive": True, **more}
    return MethodSpec(method_id=method_id, name=method_id.title(), **given)


class Healthy:
    """Nearest class mean on the highly variable genes."""

    spec = spec("healthy", tasks=("annotation", "novelty"))

    def __init__(self, *, seed=0, shrink=0.0):
        self.shrink = shrink

    def fit(self, train):
        label = np.asarray(train.obs["label"], dtype=str)
        self.labels = np.unique(label)
        self.means = np.stack([train.X[label == name].mean(axis=0).A1 for name in self.labels])

    def predict(self, query):
        X = query.X.toarray()
        distance = ((X[:, None, :] - self.means[None]) ** 2).sum(axis=2)
        return Prediction(label_pred=self.labels[distance.argmin(axis=1)], novelty=distance.min(axis=1))


class Raises(Healthy):
    spec = spec("raises")

    def predict(self, query):
        raise RuntimeError("no luck today")


class Sleeps(Healthy):
    spec = spec("sleeps")

    def predict(self, query):
        time.sleep(3600)


class Allocates(Healthy):
    spec = spec("allocates")

    def predict(self, query):
        hoard = []
        while True:
            hoard.append(np.ones(4_000_000))


class Reorders(Healthy):
    spec = spec("reorders")

    def predict(self, query):
        prediction = super().predict(query)
        return Prediction(label_pred=np.sort(prediction.label_pred)[::-1])


class NamesInAnotherOrder:
    spec = spec("names_in_another_order", tasks=("integration",), labels="none", inductive=False)

    def __init__(self, *, seed=0):
        pass

    def fit_embed(self, adata):
        import pandas as pd

        return pd.DataFrame(adata.X.toarray(), index=adata.obs_names).sort_index(ascending=False)


class ShuffledRows:
    spec = spec("shuffled_rows", tasks=("integration",), labels="none", inductive=False)

    def __init__(self, *, seed=0):
        self.seed = seed

    def fit_embed(self, adata):
        return np.random.default_rng(self.seed).permutation(adata.X.toarray())


class ReturnsNaN(Healthy):
    spec = spec("returns_nan")

    def predict(self, query):
        prediction = super().predict(query)
        novelty = np.array(prediction.novelty)
        novelty[3] = np.nan
        return Prediction(label_pred=prediction.label_pred, novelty=novelty)


class Bulky:
    """An embedding of about 6 MB that does not compress."""

    spec = spec("bulky", tasks=("integration",), labels="none", inductive=False)

    def __init__(self, *, seed=0):
        pass

    def fit_embed(self, adata):
        noise = np.random.default_rng(0).normal(size=(adata.n_obs, 5000))
        noise[:, : adata.n_vars] += 9 * adata.X.toarray()
        return noise


class Links:
    """Links every cell to the ten that correlate most with it, the stronger the nearer."""

    spec = spec("links", tasks=("integration",), labels="none", inductive=False)

    def __init__(self, *, seed=0):
        pass

    def fit_embed(self, adata):
        from scipy.sparse import csr_matrix

        correlation = np.corrcoef(adata.X.toarray())
        linked = correlation >= np.sort(correlation, axis=1)[:, -11:-10]
        return Graph(
            connectivities=csr_matrix(np.where(linked, correlation, 0.0)),
            distances=csr_matrix(np.where(linked, 1.001 - correlation, 0.0)),
        )


class Doubled:
    """Twice the expression."""

    spec = spec("doubled", tasks=("integration",), labels="none", inductive=False)

    def __init__(self, *, seed=0):
        pass

    def fit_embed(self, adata):
        return Corrected(X=2 * adata.X.toarray())


class NanEmbedding:
    spec = spec("nan_embedding", tasks=("integration",), labels="none", inductive=False)

    def __init__(self, *, seed=0):
        pass

    def fit_embed(self, adata):
        X = adata.X.toarray()
        X[5] = np.nan
        return X


class TooFewRows(Healthy):
    spec = spec("too_few_rows")

    def predict(self, query):
        return Prediction(label_pred=super().predict(query).label_pred[1:])


class Segfaults(Healthy):
    spec = spec("segfaults")

    def predict(self, query):
        os.kill(os.getpid(), 11)


class Leaves(Healthy):
    spec = spec("leaves")

    def predict(self, query):
        print("good bye", flush=True)
        os._exit(3)


class LeavesQuietly(Healthy):
    spec = spec("leaves_quietly")

    def predict(self, query):
        sys.exit(0)


class Mumbles(Healthy):
    spec = spec("mumbles")

    def predict(self, query):
        raise ValueError("half a character: \udcff")


class Forks(Healthy):
    """Hangs in a child of a child."""

    spec = spec("forks")

    def predict(self, query):
        if os.fork() == 0:
            if os.fork() == 0:
                time.sleep(3600)
            os._exit(0)
        time.sleep(3600)


class Prints(Healthy):
    """Says 100 MB, and then what it was asked for."""

    spec = spec("prints")

    def predict(self, query):
        for _ in range(100):
            print("x" * 2**20)
        return super().predict(query)


class Writes(Healthy):
    """Leaves files in the folder that it finds itself in."""

    spec = spec("writes")

    def predict(self, query):
        Path("models/deep").mkdir(parents=True)
        Path("models/deep/weights.bin").write_bytes(bytes(1000))
        return super().predict(query)


class Garbage(Healthy):
    spec = spec("garbage")

    def predict(self, query):
        return {"what": object()}


class Refuses(Healthy):
    spec = spec("refuses")

    def fit(self, train):
        raise NotApplicableError("only for brains")


class NeedsMissing(Healthy):
    spec = spec("needs_missing", requires=("no_such_module_at_all",))


class Peeks(Healthy):
    """Reports what it was shown, through its predictions."""

    spec = spec("peeks", labels="none")

    def fit(self, train):
        self.columns = sorted(train.obs)

    def predict(self, query):
        text = "+".join(self.columns) + "/" + "+".join(sorted(query.obs))
        return Prediction(label_pred=np.full(query.n_obs, text))
