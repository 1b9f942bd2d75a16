"""A class that was defined in a notebook or a script, as a file that other processes can load.

Every run has a separate process, which knows nothing of the notebook. So the source of the class is written
to a plug-in file, together with what it refers to:

- imported modules, functions and classes: as imports;
- functions and classes of the same notebook: as their source;
- text, numbers, booleans, None, and tuples, lists, sets and dictionaries of these: as they are now.

Anything else (an array, a trained model, an open file) is refused by name. A class from a file is
used as that file.
"""

from __future__ import annotations

import ast
import linecache
import symtable
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from cellular_bench.core.errors import UserError
from cellular_bench.core.files import write_text_atomically

_REMEDY = "Put the class into a file, such as my_method.py, and give that file instead."


def write_plugin(method: type, path: Path) -> Path:
    """Return a file that defines a class: its own, or ``path``, written from the notebook's source.

    The text depends on the source alone, so a class that did not change keeps its results.

    Raises
    ------
    UserError
        If the source is not to be had, or refers to something that cannot be written down.
    """
    module = sys.modules.get(method.__module__)
    file = getattr(module, "__file__", None)
    if method.__module__ != "__main__" and file is not None:
        if module is not None and module.__package__:
            raise UserError(
                f"{method.__name__} belongs to the package '{module.__package__}'. Name the class in an "
                "entry point of the group 'cellular_bench.methods', install the package, and use its id."
            )
        return Path(file)
    text = plugin_source(method)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text_atomically(path, text)
    return path


def plugin_source(method: type) -> str:
    """Return the text of a file that defines a class of the notebook and what it refers to.

    Of several methods, such as a class and the one it is derived from, the file is to hold this one only.
    """
    imports: set[str] = set()
    definitions: dict[str, str] = {}
    _collect(method.__name__, method, imports, definitions)
    namespace = _namespace(method)
    for name in sorted(set(definitions) - {method.__name__}):
        if "spec" in getattr(namespace.get(name), "__dict__", {}):
            definitions[f"del {name}.spec"] = f"del {name}.spec"
    head = f'"""{method.__name__}, as it was defined in a notebook."""'
    lines = ["from __future__ import annotations", *sorted(imports)]
    return "\n\n".join([head, "\n".join(lines), *definitions.values()]) + "\n"


def _collect(name: str, value: Any, imports: set[str], definitions: dict[str, str]) -> None:
    """Add what a name of the notebook stands for, what it refers to first."""
    if name in definitions:
        return
    if isinstance(value, ModuleType):
        imports.add(f"import {value.__name__} as {name}")
    elif _is_plain(value):
        definitions[name] = f"{name} = {value!r}"
    elif _is_importable(value):
        imports.add(f"from {value.__module__} import {value.__qualname__} as {name}")
    elif isinstance(value, type | FunctionType):
        source, namespace = _source(value), _namespace(value)
        definitions[name] = ""  # it may refer to itself
        for other in _references(source):
            if other in namespace:
                _collect(other, namespace[other], imports, definitions)
        definitions[name] = definitions.pop(name) or source  # after what it needs
    else:
        raise UserError(
            f"'{name}' is a {type(value).__name__} of this notebook, which other processes cannot be given. "
            f"Make it within the class. {_REMEDY}"
        )


def _is_plain(value: Any) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError, TypeError):
        return False


def _is_importable(value: Any) -> bool:
    """Whether another process finds the same object under its name."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if module in (None, "__main__") or "." in name:
        return False
    found = sys.modules.get(str(module))
    spec = getattr(found, "__spec__", None)
    return spec is not None and getattr(found, name, None) is value


def _namespace(value: Any) -> dict[str, Any]:
    functions = [value] if isinstance(value, FunctionType) else _functions(value)
    return functions[0].__globals__


def _functions(value: type) -> list[FunctionType]:
    """Return the functions of a class's own body, which know the file and the names around it."""
    found = [member for member in vars(value).values() if isinstance(member, FunctionType)]
    if not found:
        raise UserError(f"{value.__name__} defines no function, so its source is not to be found. {_REMEDY}")
    return found


def _source(value: Any) -> str:
    """Return the source of a class or function of the notebook.

    A notebook's class has no file that :mod:`inspect` finds; its functions know the cell that they come from.
    """
    functions = [value] if isinstance(value, FunctionType) else _functions(value)
    file = functions[0].__code__.co_filename
    text = "".join(linecache.getlines(file))
    line = functions[0].__code__.co_firstlineno
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == value.__name__:
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            if first <= line <= (node.end_lineno or 0):
                lines = text.splitlines()[first - 1 : node.end_lineno]
                return textwrap.dedent("\n".join(lines))
    raise UserError(f"The source of {value.__name__} is not to be had ({file}). {_REMEDY}")


def _references(source: str) -> list[str]:
    """Return the names that a piece of source takes from around it, in the order of the alphabet."""
    table = symtable.symtable("from __future__ import annotations\n" + source, "notebook", "exec")
    return sorted(set(_globals_of(table)))


def _globals_of(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        if symbol.is_referenced() and symbol.is_global():
            yield symbol.get_name()
    for child in table.get_children():
        yield from _globals_of(child)
