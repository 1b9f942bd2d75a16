"""A board in a few sentences: its data, its runs, and the best method of each track."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cellular_bench.benchmark.analysis.leaderboard import (
    Board,
    BoardRow,
    Track,
    is_transductive,
    method_key,
)
from cellular_bench.benchmark.analysis.leak_canary import LeakCanary
from cellular_bench.benchmark.analysis.rank_stability import against_best, aspect_leaders
from cellular_bench.benchmark.analysis.statistics import Comparison
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.benchmark.tasks import DEFAULT_RULE, TASKS, Rule
from cellular_bench.core.types import STRESSES, AspectId, SplitKind, TaskId, aspect_title
from cellular_bench.metrics import METRICS
from cellular_bench.reports.tables.formatting import number, plural
from cellular_bench.reports.tables.method_rows import display_names, overall_spread
from cellular_bench.reports.tables.model import TRANSDUCTIVE, marked

SPLIT_TITLES: Mapping[SplitKind, str] = {
    "all": "all cells at once",
    "kfold": "cross-validation over cells",
    "leave_one_batch_out": "leave one batch out",
    "unseen_label": "labels held out",
    "private_label": "a label that one batch alone has",
    "reference_query": "reference to query",
    "even_halves": "one batch in random halves",
    "skewed_halves": "one batch in halves of other composition",
}

#: Names in a sentence; more are counted.
MOST_NAMED = 4

#: Ranked tracks, and what their methods have in common.
TRACKS_IN_WORDS: Mapping[Track, str] = {
    "unsupervised": "without labels",
    "supervised": "with training labels",
    "sees scored labels": "shown scored labels",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """The best complete methods of a track; several if they tie."""

    title: str
    names: tuple[str, ...]
    score: str
    spread: str
    verdicts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardSummary:
    """The few numbers that matter of one board."""

    title: str
    subtitle: str
    facts: str
    winners: tuple[Winner, ...]
    runs: str
    n_failed: int
    n_incomplete: int
    canary: str = ""
    caution: str = ""


def summary_of(board: Board) -> BoardSummary:
    """Summarise a board."""
    runs = [run for row in board.rows for run in row.runs]
    return BoardSummary(
        title=board_title(board),
        subtitle=subtitle(board),
        facts=_facts(board),
        winners=tuple(w for track in TRACKS_IN_WORDS if (w := _winner(board, track)) is not None),
        runs=runs_in_words(runs),
        n_failed=sum(run.status != "ok" for run in runs),
        n_incomplete=sum(row.incomplete_because is not None for row in board.rows),
        canary=canary_in_words(board),
        caution=caution_in_words(board),
    )


def canary_in_words(board: Board) -> str:
    """Say what the leak canary of a board found; empty without one."""
    canary = board.canary
    if canary is None:
        return ""
    names = {key: marked(*name) for key, name in display_names(board).items()}
    found = canary.by_method
    leaks = [
        f"{names[key]} agrees in {found[key].share:.0%} (chance {found[key].chance:.0%}): flagged"
        for key in canary.flagged
    ]
    n_honest = len(found) - len(leaks)
    if n_honest and canary.has_power:
        verb = "agrees" if n_honest == 1 else "agree"
        leaks.insert(0, f"{plural(n_honest, 'method')} {verb} with permuted labels by chance")
    elif not canary.has_power:
        leaks.append(_without_power(canary))
    if canary.unanswered:
        leaks.append(f"no answer from {', '.join(sorted(names[key] for key in canary.unanswered))}")
    return f"Leak canary: {'; '.join(leaks)}."


def _without_power(canary: LeakCanary) -> str:
    if canary.control is None:
        return "no power, as no control that is shown the labels ended well"
    return (
        f"no power, as on {plural(canary.control.n_cells, 'cell')} even a control that is shown the labels "
        f"agrees in {canary.control.share:.0%} (chance {canary.control.chance:.0%})"
    )


def board_title(board: Board) -> str:
    """Name the task and the data of a board."""
    return f"{TASKS[board.task].title} · {board.dataset_title}"


def subtitle(board: Board) -> str:
    """Say how the cells were split, and what was made harder."""
    stress = board.splits[0].stress
    if stress is None:
        return SPLIT_TITLES[board.split_kind]
    info = STRESSES[stress.kind]
    return f"{SPLIT_TITLES[board.split_kind]}; {info.title.lower()}: {stress.level:g} ({info.unit})"


def _facts(board: Board) -> str:
    """Describe the cells, splits and seeds: ``"3,607 cells × 2,000 genes · 4 batches · ..."``."""
    data = board.dataset
    seeds = {run.seed for row in board.rows for run in row.runs}
    size = f"{data.n_obs:,} cells × {data.n_vars:,} genes" if data.n_obs else "size not stated"
    labels = plural(data.n_labels, "label") if data.n_labels else "no labels"
    groups = [plural(data.n_batches, "batch"), labels] if data.n_obs else []
    return " · ".join([size, *groups, plural(len(board.splits), "split"), plural(len(seeds), "seed")])


def runs_in_words(runs: Sequence[RunRecord]) -> str:
    """Count outcomes: ``"12 of 14 runs succeeded; 1 failed, 1 timeout"``."""
    counts = Counter(run.status for run in runs)
    succeeded = counts.pop("ok", 0)
    rest = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(counts.items()))
    head = f"{succeeded:,} of {plural(len(runs), 'run')} succeeded"
    return f"{head}; {rest}" if rest else head


def _winner(board: Board, track: Track) -> Winner | None:
    ranked = [row for row in board.rows if row.track == track and row.rank is not None]
    best = [row for row in ranked if row.rank == 1]
    if not best:
        return None
    names = {key: marked(*name) for key, name in display_names(board).items()}
    some = "Best of" if len(ranked) > 1 else "Only"
    marks = (TRANSDUCTIVE if is_transductive(row.runs[0]) else "" for row in best)
    return Winner(
        title=f"{some} {plural(len(ranked), 'method')} {TRACKS_IN_WORDS[track]}",
        names=tuple(
            marked(names[method_key(row.method)], mark) for row, mark in zip(best, marks, strict=True)
        ),
        score=number(best[0].overall.mean or 0.0),
        spread=overall_spread(best[0]),
        verdicts=_verdicts(board, ranked, names),
    )


def _verdicts(board: Board, ranked: Sequence[BoardRow], names: Mapping[str, str]) -> tuple[str, ...]:
    """Say which methods do not differ significantly from the best, overall and by aspect."""
    best, *others = ranked
    if not others:
        return ()
    unit = "held-out label" if best.runs[0].split.unseen_labels else "split"
    tests = tuple(against_best(board, best.track).values())
    units = plural(tests[0].n, unit)
    if any(comparison.p_value is None for comparison in tests):
        return (f"Too few runs for a test: {units}.",)
    test = f"{'t test' if unit == 'held-out label' else 'corrected t test'} over {units}, Holm, 5 %"
    tied = _tied(tests, names)
    overall = f"Not significantly different from {tied}" if tied else "Significantly better than all others"
    leaders = aspect_leaders(board, best.track) if len(board.weights) > 1 else {}
    return (f"{overall} ({test}).", *(_leads(aspect, *leader, names) for aspect, leader in leaders.items()))


def _leads(aspect: AspectId, best: str, tests: Sequence[Comparison], names: Mapping[str, str]) -> str:
    """Say which method leads on one aspect, and which others do not differ significantly from it."""
    tied = _tied(tests, names)
    versus = f"not significantly different from {tied}" if tied else "significantly better than all others"
    return f"{aspect_title(aspect)}: {names[best]} leads, {versus}."


def _tied(tests: Sequence[Comparison], names: Mapping[str, str]) -> str:
    """List the methods that do not differ significantly from the best one, the first few by name."""
    tied = [names[comparison.second] for comparison in tests if not comparison.is_different]
    rest = [f"{len(tied) - MOST_NAMED} more"] if len(tied) > MOST_NAMED else []
    return ", ".join([*tied[:MOST_NAMED], *rest])


def formula(board: Board) -> str:
    """Write how the overall scores of a board are made, that of the other rule too."""
    words = [own_formula(board)]
    if board.other_rule is not None:
        words.append(f"{other_title(board.other_rule)} = {rule_in_words(board.other_rule)}")
    return "; ".join(words)


def own_formula(board: Board) -> str:
    """Write the rule of a board, ``"0.4 × batch correction + ..."``, or the metrics of its only aspect."""
    if len(board.aspects) == 1:
        (aspect,) = board.aspects
        names = [spec.name for spec in board.metrics if spec.aspect == aspect and spec.in_overall]
        return f"the mean of {', '.join(names)}"
    words = rule_in_words(board.rule) if board.dataset.is_labelled else _metrics_weighed(board)
    return words if board.rule.name == DEFAULT_RULE else f"{words} ({board.rule.title} weights)"


def rule_in_words(rule: Rule) -> str:
    """Write the weights of a rule: ``"0.4 × batch correction + 0.6 × bio conservation"``."""
    return " + ".join(
        f"{weight:.3g} × {aspect_title(aspect).lower()}"
        for aspect, weight in rule.weights.items()
        if weight > 0
    )


def _metrics_weighed(board: Board) -> str:
    """Write the weights with the metrics of each aspect, where these are others than usual."""
    parts = []
    for aspect, weight in board.weights.items():
        names = [spec.name for spec in board.metrics if spec.aspect == aspect and spec.in_overall]
        mean = f" ({', '.join(names)})" if names else ""
        parts.append(f"{weight:.3g} × {aspect_title(aspect).lower()}{mean}")
    return " + ".join(parts)


def other_title(rule: Rule) -> str:
    """Return the title of the column with scores under another rule: ``"scIB overall"``."""
    return f"{rule.title} overall"


def formulas(boards: Sequence[Board]) -> list[tuple[str, str]]:
    """Return each task with its formula; with several, each with the data sets that it is for."""
    found: dict[TaskId, dict[str, list[str]]] = {}
    for board in boards:
        found.setdefault(board.task, {}).setdefault(formula(board), []).append(board.dataset_title)
    return [
        (title if len(by_words) == 1 else f"{title} ({', '.join(dict.fromkeys(titles))})", words)
        for task, by_words in found.items()
        for words, titles in by_words.items()
        for title in (TASKS[task].title,)
    ]


def weights_notes(board: Board) -> tuple[str, ...]:
    """Say what the overall score of a board does without, in sentences."""
    notes = []
    if board.instead_of is not None:
        absent = _aspects(
            a for a in board.instead_of.weights if a in board.instead_of.needs - {*board.aspects}
        )
        if board.dataset.is_labelled:
            notes.append(
                f"No run has been scored for {absent}, so the overall score has the {board.rule.title} "
                "weights. run-benchmark rescore FOLDER adds the scores where outputs are kept."
            )
        else:
            notes.append(
                f"Without labels there is no score of {absent}, so the overall score has the "
                f"{board.rule.title} weights."
            )
    for aspect, splits in board.left_out.items():
        if board.weights[aspect] > 0 and len(board.weights) > 1:
            everywhere = len(splits) == len({split.split_id for split in board.splits})
            where = "on these data" if everywhere else f"on {', '.join(splits)}"
            notes.append(
                f"{aspect_title(aspect)} is left out of the overall score {where}, for every method: none of "
                "its metrics is defined there. The weights of the other aspects are scaled to add up to 1."
            )
    return tuple(notes)


def caution_in_words(board: Board) -> str:
    """Say what a ranking without labels is worth, and what labels would add; empty for other boards."""
    free = None if board.dataset.is_labelled else TASKS[board.task].without_labels
    if free is None:
        return ""
    shown = {spec.metric_id for spec in board.metrics}
    absent = [
        spec.name
        for spec in METRICS.values()
        if spec.in_overall and spec.aspect in TASKS[board.task].weights and spec.metric_id not in shown
    ]
    return f"{free.caution} Labels would add {', '.join(absent)} to the overall score."


def _aspects(aspects: Iterable[AspectId]) -> str:
    return " and ".join(aspect_title(aspect).lower() for aspect in aspects)
