"""What a new user meets first: the doctor, how much is printed, and plain text in pipes."""

import json
import logging
import os
import tomllib
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import click
import pytest
from rich.console import Console

from cellular_bench import UserError
from cellular_bench.benchmark.execution import machine
from cellular_bench.benchmark.plan import installed
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.cli import LazyGroup, group
from cellular_bench.cli import doctor as doctor_command
from cellular_bench.progress import ConsoleProgress
from cellular_bench.workflows import doctor

COLOUR = "\x1b[3"


def test_the_doctor_finds_this_machine_usable() -> None:
    findings = {finding.topic: finding for finding in doctor.examine()}
    assert findings["packages"].status == "ok", findings["packages"].found
    assert {"cores", "memory", "results", "temporary files", "downloads", "GPU"} <= set(findings)
    assert {"environment liger", "environment seurat"} <= set(findings)
    assert f"of {os.cpu_count()} usable" in findings["cores"].found
    for finding in findings.values():
        if finding.status == "missing":
            assert finding.enables, finding


def test_the_doctor_names_every_extra_a_user_may_want(repo: Path) -> None:
    extras = tomllib.loads((repo / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(doctor.EXTRAS) == set(extras) - {"test", "docs"}


@pytest.mark.parametrize(
    ("line", "lack"),
    [
        ("numpy>=2.0", ""),
        ("numpy<1", "<1 is needed"),
        ("no-such-package>=3", "no-such-package is not installed; >=3 is needed"),
        ("no-such-package; sys_platform == 'win32'", ""),
    ],
)
def test_the_doctor_compares_versions(line, lack) -> None:
    found = doctor._lack(line)
    assert found.endswith(lack)
    assert bool(found) == bool(lack)


@pytest.mark.parametrize(
    ("have", "found"),
    [
        ("1.7.0", []),
        ("1.9.99", []),
        ("1.6.9", ["scikit-learn 1.6.9 (tested: 1.7 to 1.9)"]),
        ("1.10.0rc1", ["scikit-learn 1.10.0rc1 (tested: 1.7 to 1.9)"]),
        ("2", ["scikit-learn 2 (tested: 1.7 to 1.9)"]),
        (installed.NOT_INSTALLED, []),
    ],
)
def test_versions_that_were_not_tested_are_named(monkeypatch, tmp_path, have, found) -> None:
    table = tmp_path / "tested.csv"
    table.write_text("package,oldest,newest\nscikit-learn,1.7,1.9\n")
    monkeypatch.setattr(installed, "TESTED", table)
    monkeypatch.setattr(installed, "version_of", lambda name: have)
    assert installed.untested() == found
    (said,) = [finding for finding in doctor.examine() if finding.topic == "versions"]
    assert said.status == "ok", "it may work all the same"
    assert said.found == (
        f"not tested: {found[0]}; {installed.CONSTRAINTS} has tested ones" if found else "all are tested"
    )


def test_a_python_that_was_not_tested_is_named(monkeypatch) -> None:
    monkeypatch.setattr(installed.platform, "python_version", lambda: "3.99.1")
    assert "python 3.99.1 (tested: 3.11 to 3.13)" in installed.untested()


def test_a_problem_ends_with_code_1_and_says_what_to_do(monkeypatch, capsys) -> None:
    monkeypatch.setattr(doctor, "requires", lambda name: ["no-such-package>=3"])
    assert doctor_command.command.main(["--format", "json"], standalone_mode=False) == 1
    found = json.loads(capsys.readouterr().out)
    (problem,) = [finding for finding in found if finding["status"] == "problem"]
    assert "no-such-package is not installed" in problem["found"]
    assert problem["remedy"].startswith("pip install")


def test_absent_r_and_environments_say_what_they_would_enable(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {finding.topic: finding for finding in doctor.examine()}
    assert found["environment liger"].status == found["environment seurat"].status == "missing"
    assert found["environment liger"].remedy == "run-benchmark env create liger"
    assert "liger" in found["environment liger"].enables
    assert "no Rscript" in found["environment seurat"].found
    assert "seurat_cca" in found["environment seurat"].enables


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("run-benchmark re", {"plain,report", "plain,reproduce", "plain,rescore"}),
        ("run-benchmark run --method harmo", {"plain,harmony"}),
        ("run-benchmark run --method pca,harmo", {"plain,pca,harmony"}),
        ("run-benchmark run --task nov", {"plain,novelty"}),
    ],
)
def test_a_shell_completes_commands_options_and_names(run_benchmark, typed, offered) -> None:
    done = run_benchmark(
        _RUN_BENCHMARK_COMPLETE="bash_complete", COMP_WORDS=typed, COMP_CWORD=str(typed.count(" "))
    )
    assert set(done.stdout.split()) >= offered
    assert done.stderr == ""


def test_every_command_can_be_quiet_or_keep_a_log() -> None:
    def below(command: click.Command) -> list[click.Command]:
        subs = command.commands.values() if isinstance(command, click.Group) else []
        return [command, *(one for sub in subs for one in below(sub))]

    context = click.Context(group)
    for name in LazyGroup.commands_in:
        for command in below(group.get_command(context, name)):
            known = [option for parameter in command.params for option in parameter.opts]
            assert known.count("--quiet") == known.count("--verbose") == known.count("--log-file") == 1, name


def run_small(out: Path, *more: object) -> None:
    arguments = [
        "run", "--dataset", "simulated_small", "--task", "annotation", "--method", "true_labels", "--split",
        "kfold", "--n-splits", 2, "--out", out, "--no-figures", *more,
    ]  # fmt: skip
    assert group.main([*map(str, arguments)], standalone_mode=False) == 0


def test_quiet_verbose_and_a_log_file(tmp_path, capsys) -> None:
    log = tmp_path / "log.txt"
    run_small(tmp_path / "out", "--quiet", "--log-file", log)
    reported = capsys.readouterr()
    assert reported.out == reported.err == ""
    lines = log.read_text(encoding="utf-8").splitlines()
    assert sum(" INFO started annotation-simulated_small-" in line for line in lines) == 2
    assert sum(": ok after " in line for line in lines) == 2
    assert lines[-1].endswith("ended with code 0")
    assert datetime.fromisoformat(lines[0][:10]).year >= 2024
    assert logging.getLogger("cellular_bench").handlers == []

    run_small(tmp_path / "out", "--fresh", "--verbose")
    reported = capsys.readouterr()
    assert "2 runs, 2 to do" in reported.out
    assert reported.err.count("started annotation-simulated_small-") == 2
    run_small(tmp_path / "out")
    reported = capsys.readouterr()
    assert "2 runs, 0 to do" in reported.out
    assert reported.err == ""


def test_an_error_is_in_the_log_with_where_it_arose(tmp_path) -> None:
    log = tmp_path / "log.txt"
    with pytest.raises(UserError, match="Did you mean 'harmony'"):
        group.main(["check", "harmoni", "--log-file", str(log)], standalone_mode=False)
    text = log.read_text(encoding="utf-8")
    assert "ended by UnknownNameError: Unknown method 'harmoni'" in text
    assert "Traceback" in text
    with pytest.raises(UserError, match="not both"):
        group.main(["check", "knn", "-q", "-v"], standalone_mode=False)
    with pytest.raises(UserError, match="cannot be written"):
        group.main(["list", "suites", "--log-file", str(tmp_path / "no" / "x")], standalone_mode=False)


def record() -> RunRecord:
    now = datetime.now(UTC)
    return RunRecord.model_validate(
        {
            "run_id": "a", "suite_id": "s", "task": "annotation", "seed": 0, "status": "failed",
            "reason": "x",
            "method": {"method_id": "knn", "name": "kNN", "version": 1},
            "dataset": {
                "dataset_id": "d", "title": "d", "digest": "0", "n_obs": 1, "n_vars": 1, "n_batches": 1,
                "n_labels": 1,
            },
            "split": {"split_id": "all", "kind": "all", "digest": "0", "n_train": 1, "n_test": 1},
            "environment": machine.current_environment(), "started_at": now, "finished_at": now,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("terminal", "no_colour", "coloured"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_progress_has_colours_in_a_terminal_alone(terminal, no_colour, coloured, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    text = StringIO()
    console = Console(file=text, force_terminal=terminal or None)
    progress = ConsoleProgress(console)
    progress.begin(1)
    progress.finished(record())
    progress.end()
    assert "failed" in text.getvalue()
    assert (COLOUR in text.getvalue()) == coloured


def test_progress_tells_the_genes_of_a_method_that_was_given_others_than_its_own_choice() -> None:
    text = StringIO()
    progress = ConsoleProgress(Console(file=text))
    progress.begin(2)
    ended = record()
    for given in (None, "all"):
        method = ended.method.model_copy(update={"features": "all", "given_features": given})
        progress.finished(ended.model_copy(update={"method": method}))
    assert [line for line in text.getvalue().splitlines() if "knn" in line] == [
        "[1/2] failed          annotation d all knn seed 0",
        "[2/2] failed          annotation d all knn (all) seed 0",
    ]


def test_a_pipe_gets_plain_text(run_benchmark) -> None:
    done = run_benchmark("list", "suites", TERM="xterm-256color")
    assert "quickstart" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
