"""Records of every shape, with anything for a name: what a folder from a stranger may hold."""

import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cellular_bench.benchmark.schema.records import Missing, RunRecord
from cellular_bench.core.types import MetricSpec

#: Words that no text of ours contains; where one is an element, an attribute or an address, it got out.
SENTINEL = "pwned"
NAMES = (
    "",
    " ",
    "PCA",
    "a b",
    "a-b",
    "naïve T",
    "细胞",
    "👩‍🔬 emoji",
    f"<script>window.{SENTINEL}=1;alert(1)</script>",
    f"</script><script>window.{SENTINEL}=2</script>",
    f"<img src=https://{SENTINEL}.example/x onerror=window.{SENTINEL}=3>",
    f"</style><style>@import 'https://{SENTINEL}.example'</style>",
    f'" onmouseover="window.{SENTINEL}=4" x="',
    f"' autofocus onfocus='window.{SENTINEL}=5' x='",
    f"javascript:window.{SENTINEL}=6",
    f"{{{{ 7*7 }}}}{{% raw %}} ${{window.{SENTINEL}=7}} `${{1}}`",
    "<!-- <script> -->",
    "]]>&lt;b&gt;&amp;#60;",
    "line\u2028separator\u2029paragraph",
    "nul\0 esc\x1b[2J\x1b]8;;https://pwned.example\x07link\x1b]8;;\x07 bel\x07 back\x08 return\rover",
    "\x9b31mC1 \x85 next",
    "two\nlines\n# heading\n\n- item",
    "tab\tthere",
    "\u202egnp.exe\u202c \u2066isolated\u2069",
    "\u200b",
    "\u200d\u200d",
    "zero\u200bwidth\ufeff",
    "Z" + "\u0301\u0336" * 40,
    "x" * 10_000,
    "<" * 10_000,
    r"\input{/etc/passwd} $x_1^2$ 50% {a} #1 ~ & \\",
    "$",
    r"\$x$",
    "$$\\frac{",
    "_private",
    "[5cm]",
    "*",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "|pipe|`code`|**bold**|[link](javascript:alert(1))|![i](https://pwned.example/i.png)|",
    "NUL",
    "con.txt",
    "../../etc",
    "/absolute",
    "%zz%00%",
    "#%zz?x=1",
    "[red]rich[/] [link=https://pwned.example]markup[/link]",
    "None",
    "nan",
)
#: Metric ids, and their aspects, by task.
METRICS = {
    "integration": {
        "ilisi": "batch_correction",
        "kbet": "batch_correction",
        "ari": "bio_conservation",
        "state": "structure",
    },
    "harm": {"harmless": "harm"},
    "annotation": {"accuracy": "annotation", "f1": "annotation"},
    "novelty": {"auroc": "novelty"},
}
ODD_DOIS = (
    None,
    "10.1/x) [x](javascript:alert(1))",
    'javascript:alert(1)"',
    "https://doi.org/10.1/ok",
    "//evil",
)
START = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def specs() -> dict[str, MetricSpec]:
    """Metrics of the records; one with a range from -1, one where lower is better."""
    made = {}
    for metrics in METRICS.values():
        for metric_id, aspect in metrics.items():
            fields: Any = {"metric_id": metric_id, "aspect": aspect, "function": float, "doi": None}
            least = -1.0 if metric_id == "ari" else 0.0
            made[metric_id] = MetricSpec(
                name=metric_id.upper(),
                definition="x",
                minimum=least,
                higher_is_better=metric_id != "kbet",
                **fields,
            )
    return made


def records(seed: int, *, name: Callable[[str], str] | None = None) -> list[RunRecord]:
    """Return the records of a folder, the same for the same seed.

    Parameters
    ----------
    name
        What stands for each hostile text; by default the text. With another function, records of the same
        shape with other texts.
    """
    rng = random.Random(seed)
    as_is = (lambda text: text) if name is None else name

    def text() -> str:
        return as_is(rng.choice(NAMES))

    def any_of(most: int) -> list[str]:
        return [text() for _ in range(rng.randint(0, most))]

    # Of all things many, but not of all at once.
    n_tasks, n_datasets, n_methods = rng.choice([(1, 1, 1), (1, 1, 9), (3, 1, 2), (1, 2, 3), (1, 6, 3)])
    tasks = rng.sample(list(METRICS), n_tasks)
    datasets = [_dataset(rng, text, place) for place in range(n_datasets)]
    methods = [_method(rng, text, place) for place in range(n_methods)]
    if n_methods == 3:  # and the first two at other settings of the preprocessing
        methods += [_at_setting(method) for method in methods[:2]]
    environments = [_environment(rng, text) for _ in range(rng.randint(1, 2))]
    ends = rng.choice([("ok",), ("failed", "timeout"), ("ok", "ok", "ok", "failed", "not_applicable")])
    shape = rng.choice(["full", "full", "constant", "no metric", "undefined", "holes"])
    found = []
    for task in tasks:
        for data in datasets:
            for split in _splits(rng, text, task):
                for method in methods:
                    for at in range(rng.choice([1, 1, 2])):
                        if rng.random() < 0.05:
                            continue  # never run on this split
                        status = rng.choice(ends)
                        run = {
                            "run_id": f"{len(found):05d}-" + _file_name(text()),
                            "suite_id": text(),
                            "task": task,
                            "method": method,
                            "dataset": data,
                            "split": split,
                            "seed": at * 10 ** rng.choice([0, 3, 18]),
                            "status": status,
                            "reason": None if status == "ok" else text() or "ended",
                            "log_tail": "" if status == "ok" else "\n".join(any_of(4)),
                            "warnings": any_of(2),
                            "notes": any_of(2),
                            "environment": rng.choice(environments),
                            "started_at": START,
                            "finished_at": START + timedelta(seconds=rng.choice([0, 60])),
                        }
                        if status == "ok":
                            run |= _scored(rng, text, task, shape)
                        found.append(RunRecord(**run))
    return found or records(seed + 1_000_003, name=name)


def _file_name(text: str) -> str:
    """Return a text that can be part of the name of a file: records with others are refused."""
    return re.sub(r"[/\\\x00-\x1f\ud800-\udfff]", "_", text)[:20]


def missing(seed: int) -> tuple[Missing, ...]:
    """Return what a suite asks for and has not, with anything in its texts."""
    rng = random.Random(seed)
    return tuple(
        Missing(
            kind="method",
            name=rng.choice(NAMES),
            reason=rng.choice(NAMES),
            remedy=rng.choice(NAMES),
            rows=tuple(rng.choices(NAMES, k=2)),
        )
        for _ in range(rng.randint(0, 3))
    )


def _dataset(rng: random.Random, text: Callable[[], str], place: int) -> dict[str, Any]:
    return {
        "dataset_id": f"d{_file_name(text())}",
        "title": text(),
        "digest": f"{place:x}" * 64,
        "n_obs": rng.choice([0, 1, 1200, 10**12]),
        "n_vars": rng.choice([0, 300]),
        "n_batches": rng.choice([0, 1, 2]),
        "n_labels": 3,
        "doi": rng.choice(ODD_DOIS),
        "license": rng.choice([None, text()]),
        "subsample": rng.choice([None, {"of": 5000, "seed": 1}]),
        "recipe": rng.choice([None, {"name": text()}]),
    }


def _method(rng: random.Random, text: Callable[[], str], place: int) -> dict[str, Any]:
    return {
        "method_id": text(),
        "name": text(),
        "version": place,
        "params": {
            text(): rng.choice([text(), 0.5, None, [text()], {text(): 1}]) for _ in range(rng.randint(0, 3))
        },
        "labels": rng.choice(["none", "train", "all"]),
        "inductive": rng.random() < 0.5,
        "is_control": rng.random() < 0.3,
        "is_reimplementation": rng.random() < 0.3,
        "doi": rng.choice(ODD_DOIS),
        "packages": {text(): text()},
    }


def _at_setting(method: dict[str, Any]) -> dict[str, Any]:
    setting = {"genes": 10**30, "flavor": "seurat", "scale": True}
    return {**method, "name": f"{method['name']}, {10**30} genes seurat scaled", "preprocessing": setting}


def _splits(rng: random.Random, text: Callable[[], str], task: str) -> list[dict[str, Any]]:
    kind = "unseen_label" if task == "novelty" else rng.choice(["all", "kfold", "leave_one_batch_out"])
    found = [
        {
            "split_id": f"s{_file_name(text())}",
            "kind": kind,
            "scheme": rng.choice(["", "kfold-3"]),
            "digest": f"{place:x}" * 64,
            "n_train": rng.choice([0, 1, 960]),
            "n_test": rng.choice([0, 240]),
            "unseen_labels": [text()] if kind == "unseen_label" else [],
            "seed": rng.choice([None, 7]),
        }
        for place in range(rng.choice([1, 2, 4]))
    ]
    scheme = found[0]["scheme"]
    for split in found:
        split["scheme"] = scheme
    if rng.random() < 0.3:
        level: Any = {"kind": rng.choice(["label_noise", "shallow"]), "level": 0.5, "seed": 0}
        found += [{**found[0], "scheme": f"{scheme}~s", "digest": "e" * 64, "stress": level}]
    return found


def _environment(rng: random.Random, text: Callable[[], str]) -> dict[str, Any]:
    return {
        "python": text(), "platform": text(), "cpu": text(), "n_cpus": rng.choice([0, 2]), "n_threads": 1,
        "packages": {text(): text() for _ in range(3)}, "git_commit": rng.choice([None, text()]),
        "git_dirty": rng.choice([None, True]), "command_line": [text()],
    }  # fmt: skip


def _scored(rng: random.Random, text: Callable[[], str], task: str, shape: str) -> dict[str, Any]:
    scores = []
    for metric_id, aspect in METRICS[task].items():
        score: dict[str, Any] = {"metric_id": metric_id, "aspect": aspect, "version": rng.choice([1, 1, 2])}
        if shape == "undefined" or (shape == "holes" and rng.random() < 0.5):
            by = rng.choice(["data", "output"])
            score |= {"value": None, "reason": text(), "undefined_by": by}
        else:
            far = [0.0, 1.0, -3.0, 1e300, 1e-300] if shape == "holes" else [rng.random()]
            score |= {"value": 0.5 if shape == "constant" else rng.choice(far)}
        score |= {"left_out": {text(): 1} if rng.random() < 0.2 else {}}
        scores.append(score)
    if rng.random() < 0.2:
        scores.append({"metric_id": text(), "aspect": "annotation", "value": 0.5})
    made: dict[str, Any] = {"scores": [] if shape == "no metric" else scores}
    if rng.random() < 0.8:
        made["cost"] = {
            "wall_time_s": rng.choice([0.0, -5.0, 3.5, 1e12]),
            "cpu_time_s": rng.choice([None, 0.0, -2540.0, 8.25, 1e-9]),
            "peak_rss_mib": rng.choice([None, 1500.0]),
            "warm_up_s": rng.choice([None, 2.0]),
        }
    if task == "integration":
        made["per_group"] = [_group(rng, text) for _ in range(rng.choice([0, 1, 6]))]
        made["conditions"] = [_condition(rng, text) for _ in range(rng.choice([0, 0, 2]))]
        made["relabelled"] = [_relabelled(text, scores) for _ in range(rng.choice([0, 0, 2]))]
    if task == "annotation":
        labels = {text() for _ in range(3)}
        figures = {"precision": None, "recall": None, "f1": rng.choice([None, 0.5])}
        made["per_label"] = [
            {"label": label, "support": rng.choice([0, 30]), "n_predicted": 0, **figures}
            for label in sorted(labels)
        ]
        made["confusion"] = {label: {other: rng.choice([0, 5]) for other in labels} for label in labels}
    return made


def _group(rng: random.Random, text: Callable[[], str]) -> dict[str, Any]:
    far = [0.0, 1.0, -3.0, 1e300, 1e-300, 0.5]
    quantities = ["batch_mixing", "label_purity", "clisi", text()]
    values = {name: rng.choice(far) for name in quantities if rng.random() < 0.8}
    return {
        "by": rng.choice(["label", "batch"]),
        "name": text(),
        "n": rng.choice([0, 1, 30]),
        "values": values,
    }


def _condition(rng: random.Random, text: Callable[[], str]) -> dict[str, Any]:
    far = [0.0, 1.0, -3.0, 1e300, 0.5]
    donors = [
        {
            "value": text(),
            "label": text(),
            "donor": text(),
            "n_obs": rng.choice([0, 30]),
            "auc": rng.choice(far),
            "auc_before": rng.choice(far),
        }
        for _ in range(rng.choice([0, 1, 4]))
    ]
    if rng.random() < 0.3:
        return {"column": text(), "kept": None, "reason": text(), "donors": donors}
    return {"column": text(), "kept": rng.choice(far), "donors": donors}


def _relabelled(text: Callable[[], str], scores: list[dict[str, Any]]) -> dict[str, Any]:
    return {"labelling": text(), "digest": text(), "n_labels": 3, "scores": scores}


def many_methods(n: int, *, n_datasets: int = 1, n_splits: int = 2) -> list[RunRecord]:
    """Return runs of many methods on each data set; every hundredth is a control."""
    found = []
    shared = _environment(random.Random(0), lambda: "text")
    for place in range(n):
        rng = random.Random(place)
        method = {
            "method_id": f"m{place}",
            "name": f"Method {place}",
            "version": 1,
            "inductive": True,
        }
        method |= {"labels": "train", "is_control": place % 100 == 7}
        for at in range(n_datasets):
            data = {"dataset_id": f"d{at}", "title": f"Data {at}", "digest": f"{at:x}" * 64}
            counts = {"n_obs": 1000, "n_vars": 100, "n_batches": 2, "n_labels": 3}
            for split in range(n_splits):
                scores = [
                    {"metric_id": metric_id, "aspect": aspect, "value": rng.random()}
                    for metric_id, aspect in METRICS["integration"].items()
                ]
                parts = {"split_id": f"fold-{split}", "kind": "kfold", "digest": f"{split}" * 64}
                found.append(
                    RunRecord(
                        run_id=f"r-{place}-{at}-{split}", suite_id="many", task="integration", method=method,
                        dataset=data | counts, split=parts | {"n_train": 500, "n_test": 500}, seed=0,
                        status="ok", scores=scores, environment=shared, started_at=START, finished_at=START,
                        cost={"wall_time_s": 1.0, "cpu_time_s": 1.0 + rng.random(), "peak_rss_mib": 100.0},
                    )
                )  # fmt: skip
    return found
