"""What a run is: identities of method, data set and split, the id of the run, and its seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cellular_bench.benchmark.plan.installed import packages_of
from cellular_bench.benchmark.plan.params import file_digests, members
from cellular_bench.benchmark.registry import Method
from cellular_bench.benchmark.schema.records import (
    DatasetIdentity,
    MethodIdentity,
    Run,
    SplitIdentity,
    StressIdentity,
)
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core import keys
from cellular_bench.core.files import truncated
from cellular_bench.core.types import Dataset, DatasetSpec, MethodSpec, Pretrained, Split, TaskId

#: Raised when the way runs are carried out changes their results; old records are then not reused.
PROTOCOL_VERSION = 2


def method_identity(method: Method, params: Mapping[str, Any]) -> MethodIdentity:
    """Describe a method as it runs."""
    spec = method.spec
    describe = getattr(method.factory, "pretrained", None)
    pretrained: Pretrained | None = describe(params) if describe else None
    return MethodIdentity(
        method_id=spec.method_id,
        name=pretrained.name if pretrained else spec.name,
        version=spec.version,
        params=dict(params),
        labels=spec.labels,
        inductive=spec.inductive,
        is_control=spec.is_control,
        is_reimplementation=spec.is_reimplementation,
        needs_names=spec.needs_names,
        doi=spec.doi,
        source_digest=method.source_digest[:10] if method.source_digest else None,
        features=spec.features,
        given_features=None if spec.features == method.factory.spec.features else spec.features,
        scaling=spec.scaling,
        packages=_packages(method, params),
        files=file_digests(method, params),
        members={member.method_id: member.version for member in members(method, params)},
        pretrained=pretrained,
    )


def _packages(method: Method, params: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions of a method's modules, of the package that it comes from and of its environment."""
    modules = [name for spec in (method.spec, *members(method, params)) for name in spec.requires]
    here = packages_of(modules, [method.distribution] if method.distribution else [])
    own = method.environment()
    return {**here, **own.versions} if own else here


def dataset_identity(dataset: Dataset) -> DatasetIdentity:
    """Describe a data set as it was loaded."""
    spec: DatasetSpec = dataset.spec
    obs = dataset.adata.obs
    return DatasetIdentity(
        dataset_id=spec.dataset_id,
        title=spec.title,
        digest=dataset.digest,
        n_obs=dataset.adata.n_obs,
        n_vars=dataset.adata.n_vars,
        n_batches=int(obs[keys.BATCH].nunique()),
        n_labels=int(obs[keys.LABEL].nunique()) if spec.label_key is not None else 0,
        doi=spec.doi,
        license=spec.license,
        subsample=dict(dataset.subsample) if dataset.subsample else None,
        recipe=dict(dataset.recipe) if dataset.recipe else None,
        gene_selection=dataset.gene_selection,
        keep=tuple(spec.keep),
        donor_key=spec.donor_key,
        released=spec.released,
    )


def split_identity(split: Split, options: Mapping[str, Any]) -> SplitIdentity:
    """Describe a split, made with some options, without its cells."""
    return SplitIdentity(
        split_id=split.split_id,
        kind=split.kind,
        scheme=split.scheme,
        digest=split.digest,
        n_train=len(split.train_obs),
        n_test=len(split.test_obs),
        unseen_labels=split.unseen_labels,
        seed=split.seed,
        stress=StressIdentity(**asdict(split.stress)) if split.stress else None,
        options=dict(options),
    )


def run_id(
    task: TaskId,
    method: Method,
    identity: MethodIdentity,
    dataset: DatasetIdentity,
    split: SplitIdentity,
    seed: int,
    *,
    study_metrics: bool = False,
) -> str:
    """Name a run after what it is, with a digest of everything that can change its result."""
    genes = [identity.given_features] if identity.given_features else []
    setting = identity.preprocessing
    given = [*genes, asdict(setting)] if setting else genes
    params = {**identity.params, **identity.files}  # what a file holds, not where it lies
    facts: dict[str, Any] = {
        "protocol": PROTOCOL_VERSION,
        "task": task,
        "method": [identity.method_id, identity.version, params, method.source_digest, *given],
        "packages": identity.packages,
        "dataset": dataset.digest,
        "split": split.digest,
        "seed": seed,
    }
    if study_metrics:
        facts["study_metrics"] = True
    if source := TASKS[task].source_digest:
        facts["task_source"] = source
    if identity.members:
        facts["members"] = identity.members
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]
    who = f"{identity.method_id}-{setting.name.replace(' ', '-')}" if setting else identity.method_id
    what = f"{dataset.dataset_id}-{truncated(split.split_id)}-{who}"
    return f"{task}-{what}-s{seed}-{digest}"


def question(run: Run) -> str:
    """Return what a run asks for as text: the same whatever is installed, unlike its name."""
    named = {"method_id", "version", "source_digest", "given_features", "members"}
    method = run.method.model_dump(include=named)
    params = {**run.method.params, **run.method.files}
    setting = [asdict(run.method.preprocessing)] if run.method.preprocessing else []
    facts = [run.task, method, params, run.dataset.digest, run.split.digest, run.seed, *setting]
    return json.dumps(facts, sort_keys=True)


def method_seed(base: int, dataset_id: str, split_id: str, spec: MethodSpec) -> int:
    """Return the seed of a method in a run; a canary has that of the method whose embedding it damages."""
    is_damage = spec.canary is not None and spec.variant_of is not None
    name = spec.variant_of if is_damage and spec.variant_of else spec.method_id
    return derive_seed(base, dataset_id, split_id, name)


def derive_seed(base: int, *parts: str) -> int:
    """Derive the seed of a run, which differs between methods, data sets and splits.

    It has 31 bits: some libraries read a seed as a signed 32-bit number.

    Examples
    --------
    >>> derive_seed(0, "baron", "kfold-5-42.1", "pca") == derive_seed(0, "baron", "kfold-5-42.1", "knn")
    False
    """
    text = "\x1f".join([str(base), *parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
