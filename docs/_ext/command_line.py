"""Sphinx directive ``command-help``: the help of every command, read when the site is built."""

from __future__ import annotations

from collections.abc import Iterator

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from cellular_bench.cli import group

PROGRAM = "run-benchmark"


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the name and the help of each command of a group, and of the groups within it."""
    if not isinstance(command, click.Group):
        yield context.command_path, command.get_help(context)
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None and not found.hidden:
            inner = click.Context(found, parent=context, info_name=name, **found.context_settings)
            yield from commands(found, inner)


def every_command() -> list[tuple[str, str]]:
    """Return the name and the help of each command."""
    return list(commands(group, click.Context(group, info_name=PROGRAM, **group.context_settings)))


class CommandHelp(SphinxDirective):
    """One section per command."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        sections = []
        for name, text in every_command():
            section = nodes.section(ids=[nodes.make_id(name)])
            section += nodes.title("", "", nodes.literal(text=name))
            section += nodes.literal_block(text, text, language="text")
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
