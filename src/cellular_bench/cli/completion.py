"""``run-benchmark completion``: what a shell needs to complete commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "run-benchmark"


@click.command(
    "completion",
    epilog="""\b
Examples:
  run-benchmark completion bash >> ~/.bashrc
  run-benchmark completion zsh >> ~/.zshrc
  run-benchmark completion fish > ~/.config/fish/completions/run-benchmark.fish

It takes effect in a new shell.""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that lets a shell complete commands, options and the names of methods."""
    from cellular_bench.cli import group

    found = get_completion_class(shell)
    assert found is not None  # one of the choices
    click.echo(found(group, {}, PROGRAM, "_RUN_BENCHMARK_COMPLETE").source())
