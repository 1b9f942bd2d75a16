"""Write docs/attacks.md from the table of attacks: ``python tests/attacks/report.py``."""

import tomllib
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
PAGE: Final = HERE.parents[1] / "docs" / "attacks.md"
TITLES: Final = {
    "leakage": "A method looks for labels of scored cells",
    "method against harness": "A method against the harness",
    "files that run code": "Files that run code or lead elsewhere",
    "folders": "Result folders",
    "pages": "Pages and tables",
    "load": "Load",
}
ISOLATION: Final = {"namespaces": "namespaces", "landlock": "Landlock", "process": "no sandbox"}
INTRODUCTION: Final = """---
orphan: true
---
# Attacks

Every line is an attack that a test tries. [What runs code](security.md) says what you can rely on.
"Documented" means that nothing closes it in that isolation: run such methods in a sandbox. The leak canary
of a board flags a method that reads the labels of its cells. It passes one that recognises cells by their
expression, as the canary's scored cells have the expression of others.

<!-- Written by tests/attacks/report.py from tests/attacks/attacks.toml. -->
"""


def table() -> list[dict[str, Any]]:
    """Return the rows of the table of attacks."""
    return list(tomllib.loads((HERE / "attacks.toml").read_text(encoding="utf-8"))["attack"])


def page(rows: list[dict[str, Any]]) -> str:
    """Return the page in Markdown."""
    lines = [INTRODUCTION]
    for kind, title in TITLES.items():
        some = [row for row in rows if row["kind"] == kind]
        lines += [f"## {title}\n", "| attack | outcome | test |", "| --- | --- | --- |"]
        lines += [f"| {_cell(row['what'])} | {_cell(_outcome(row))} | `{_test(row)}` |" for row in some]
        lines.append("")
    return "\n".join(lines)


def _outcome(row: dict[str, Any]) -> str:
    outcome = row["outcome"]
    if isinstance(outcome, str):
        return outcome
    said: dict[str, list[str]] = {}
    for isolation, what in outcome.items():
        said.setdefault(what, []).append(ISOLATION[isolation])
    canary = f" (leak canary: {row['canary']})" if "canary" in row else ""
    return "; ".join(f"{', '.join(names)}: {what}" for what, names in said.items()) + canary


def _test(row: dict[str, Any]) -> str:
    file, _, name = row["test"].removeprefix("tests/").partition("::")
    return f"{file}::{name}" + (f"[{row['method']}]" if "method" in row else "")


def _cell(text: str) -> str:
    return text.rstrip(".").replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(table()), encoding="utf-8")
