"""Every code block of the README and the documents is run, or at least read by what would run it.

Python is executed, ``run-benchmark`` carried out, data formats parsed. A block below
``<!-- skip: next "the reason" -->`` is not run; the commands in it are still read by the real command line.
A block whose first line is ``# NAME.py`` or ``# NAME.toml`` is also that file for the blocks below it.
"""

import json
import os
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import SkipTest

import click
import pytest
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.cli import group
from cellular_bench.core.errors import BenchError

pytestmark = pytest.mark.usefixtures("no_plugin_stays")
REPO = Path(__file__).resolve().parents[2]
#: docs/metrics.md is written from the cards, whose examples tests/metrics/test_cards.py runs.
DOCUMENTS = sorted(
    str(path.relative_to(REPO))
    for path in [*REPO.glob("*.md"), *(REPO / "docs").rglob("*.md")]
    if not {"_build", "jupyter_execute"} & set(path.parts) and path.name != "metrics.md"
)
#: Fences that are no code: directory trees, and what Sphinx reads, which the build of the site checks.
NO_CODE = re.compile(r"|text|\{[a-z-]+\}.*")
CODE = ("bash", "json", "python", "r", "toml")


def save(example: Example) -> None:
    """Write a block that begins with its own name to that file."""
    named = re.match(r"# ([\w.]+\.(?:py|toml))\b", example.parsed)
    if named:
        Path(named[1]).write_text(example.parsed, encoding="utf-8")


def run_python(example: Example) -> None:
    save(example)
    example.namespace.update(__name__="document", __file__=str(Path.cwd() / "block.py"))
    PythonEvaluator()(example)


def read_toml(example: Example) -> None:
    save(example)
    tomllib.loads(example.parsed)


def commands(source: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell block, as the shell would split them."""
    for line in source.replace("\\\n", " ").splitlines():
        words = [os.path.expanduser(word) for word in shlex.split(line, comments=True)]  # noqa: PTH111
        if words:
            yield words


def run_commands(example: Example) -> None:
    for program, *arguments in commands(example.parsed):
        assert program == "run-benchmark", f"{program}: mark what is not run with a reason"
        failed = group.main(arguments, prog_name=program, standalone_mode=False)
        assert not failed, f"{shlex.join(arguments)}: exit code {failed}"


def read_commands(example: Example) -> None:
    for program, *arguments in commands(example.parsed):
        if program == "run-benchmark":
            check_names(parse(group, arguments))


def parse(command: click.Command, arguments: list[str]) -> Mapping[str, object]:
    """Let a command, or the one of its group that is named, read its arguments; return what it read."""
    context = click.Context(command, info_name=command.name)
    if not isinstance(command, click.Group):
        command.parse_args(context, list(arguments))
        return context.params
    _, chosen, rest = command.resolve_command(context, list(arguments))
    assert chosen is not None
    return parse(chosen, rest)


def check_names(read: Mapping[str, object]) -> None:
    """Look up what a command names; ``--plugin`` may bring methods of its own."""
    known = {"methods": registry.methods(), "datasets": registry.datasets(), "tasks": TASKS}
    for kind, names in known.items():
        given = read.get(kind) or ()
        for name in (name for part in given for name in ([part] if isinstance(part, str) else part)):
            assert name in names or name == "all" or read.get("plugins"), f"unknown {kind}: {name}"
    suite = read.get("suite")
    is_known = suite is None or str(suite).endswith(".toml") or suite in registry.suites()
    assert is_known, f"unknown suite: {suite}"


RUN = Sybil(
    parsers=[
        SkipParser(),
        CodeBlockParser("python", run_python),
        CodeBlockParser("bash", run_commands),
        CodeBlockParser("toml", read_toml),
        CodeBlockParser("json", lambda example: json.loads(example.parsed) and None),
    ]
)
READ = Sybil(parsers=[CodeBlockParser("bash", read_commands)])


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the documents speak of: data, an embedding, predictions and results."""
    from cellular_bench.datasets import catalog

    folder = tmp_path_factory.mktemp("prepared")
    adata = catalog.load(catalog.specs()["simulated_small"]).adata.copy()
    adata.obs = adata.obs.rename(columns={"batch": "donor", "label": "cell_type"})
    for name in ("X_pca", "X_scVI"):
        adata.obsm[name] = adata.X.toarray()[:, :10]
    adata.write_h5ad(folder / "my.h5ad")
    table = adata.obs.rename(columns={"cell_type": "label"})
    table.assign(label_pred=table.label)[["label", "label_pred"]].to_csv(folder / "predictions.csv")
    small_results(folder / "results")
    for name in ("main", "mine", "monday", "cluster"):
        shutil.copytree(folder / "results" / "runs", folder / "results" / name / "runs")
        shutil.copytree(folder / "results" / "splits", folder / "results" / name / "splits")
        shutil.copy(folder / "results" / "suite.json", folder / "results" / name)
    return folder


def small_results(out: Path) -> None:
    request = "run --dataset simulated_small --split kfold --n-splits 2 --seeds 0 --jobs 1 --no-figures"
    wanted = "--task integration --task annotation --method pca,shuffled,knn,random_label"
    arguments = [*request.split(), *wanted.split(), "--out"]
    assert not group.main([*arguments, str(out)], standalone_mode=False)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_blocks_run(document: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = RUN.parse(REPO / document)
    if not list(found.examples()):
        return
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for example in found.examples():
        try:
            example.evaluate()
        except SkipTest:
            continue


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_are_read(document: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options exist, choices are valid, names are known; files need not be there."""
    monkeypatch.setattr(click.Path, "convert", lambda _self, value, _param, _context: value)
    for example in READ.parse(REPO / document).examples():
        example.evaluate()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_is_of_a_kind_that_is_tested(document: str) -> None:
    text = (REPO / document).read_text("utf-8")
    opening = re.findall(r"^```(.*)$", text, flags=re.MULTILINE)[::2]
    assert [
        language for language in opening if language not in CODE and not NO_CODE.fullmatch(language)
    ] == []
    assert re.findall(r"<!-- skip: (?!next \"[^\"]{10,}\" -->).*", text) == [], "a skip says why"
    assert (
        re.findall(
            r"^    run-benchmark.*",
            re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE),
            re.MULTILINE,
        )
        == []
    )


def test_an_unknown_option_choice_or_name_is_found(tmp_path: Path) -> None:
    for wrong in (
        "run --no-such-option",
        "run --task dancing",
        "run --method harmoni",
        "datasets lost",
        "run --suite x",
    ):
        path = tmp_path / "page.md"
        path.write_text(f"```bash\nrun-benchmark {wrong}\n```\n", encoding="utf-8")
        (example,) = READ.parse(path).examples()
        with pytest.raises((click.ClickException, BenchError, AssertionError)):
            example.evaluate()


def test_a_failing_block_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in (
        "python\n1 / 0",
        "toml\nname =",
        "json\n{",
        "bash\nrun-benchmark status nowhere",
        "bash\nls",
    ):
        path = tmp_path / "page.md"
        path.write_text(f"```{block}\n```\n", encoding="utf-8")
        (example,) = RUN.parse(path).examples()
        with pytest.raises((ArithmeticError, ValueError, AssertionError, BenchError, click.ClickException)):
            example.evaluate()


def test_the_examples_of_every_help_are_read(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(docs / "_ext"))
    monkeypatch.setattr(click.Path, "convert", lambda _self, value, _param, _context: value)
    import command_line

    helps = command_line.every_command()
    assert len(helps) >= 20
    for name, text in helps:
        examples = text.partition("Examples:")[2].partition("\n\n")[0].replace("\\\n", " ")
        for program, *arguments in commands(re.sub(r"[>|].*", "", examples)):
            if program == "run-benchmark":
                check_names(parse(group, arguments))
        assert name.startswith("run-benchmark ")
