"""The digest of a rule from its text alone: a stranger's plug-in is parsed, never imported."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
from types import ModuleType
from typing import Any

from strategies.framework.contract import Strategy
from strategies.registry.lookup import available
from strategies.registry.source import bare, digest, own_imports, shape

PACKAGE = "strategies"
OTHERS = ("torch", "numpy", "scipy")  # what a plug-in may import besides the standard library and this package


def text_digest(name: str, text: str) -> str:
    """What `source_digest` gives for the strategy `name` once the text is a plug-in.

    Raises:
        ValueError: the text is no Python, defines no such strategy, or is not whole without other files.
    """
    try:
        tree = ast.parse(text)
        available()  # the modules a rule may build on are those that are imported whenever rules are
        classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        named = [node for node in classes.values() if _name_of(node) == name]
        if len(named) != 1:
            raise ValueError(f'{len(named)} classes with name = "{name}"; expected one')
        _check_imports(tree)
        waiting = _bases(named[0], classes, _imported(tree)) + own_imports(tree)
        return digest({"": shape(bare(tree))}, waiting)
    except SyntaxError as error:
        raise ValueError(f"not Python (line {error.lineno}: {error.msg})") from None
    except (RecursionError, MemoryError):
        raise ValueError("nested too deeply to be read") from None


def _name_of(node: ast.ClassDef) -> Any:
    """The value of a class's `name = "…"`."""
    for line in node.body:
        if isinstance(line, ast.Assign):
            targets, value = line.targets, line.value
        elif isinstance(line, ast.AnnAssign) and line.value is not None:
            targets, value = [line.target], line.value
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == "name" for target in targets):
            return value.value if isinstance(value, ast.Constant) else None
    return None


def _check_imports(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise ValueError(f"line {node.lineno}: a relative import; expected a plug-in that is one file")
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in (PACKAGE, *OTHERS):
                raise ValueError(
                    f"line {node.lineno}: imports {top}; expected the standard library, {PACKAGE}, {', '.join(OTHERS)}"
                )


def _imported(tree: ast.Module) -> dict[str, tuple[str, str | None]]:
    """Local name → the module, and the name in it (None: the module itself)."""
    found: dict[str, tuple[str, str | None]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: (node.module or "", alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname or alias.name.partition(".")[0]: (alias.name, None) for alias in node.names}
    return found


def _bases(
    node: ast.ClassDef, classes: dict[str, ast.ClassDef], imported: dict[str, tuple[str, str | None]]
) -> list[ModuleType | None]:
    """The modules of this package that a class inherits from."""
    modules: list[ModuleType | None] = []
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes and base.id != node.name:
            modules += _bases(classes[base.id], classes, imported)
            continue
        cls = _class_of(base, imported)
        modules += [inspect.getmodule(ancestor) for ancestor in cls.__mro__[: cls.__mro__.index(Strategy)]]
    return modules


def _class_of(base: ast.expr, imported: dict[str, tuple[str, str | None]]) -> type[Strategy]:
    """A class of this package, from how a plug-in calls it."""
    words = ast.unparse(base)
    head, *rest = words.split(".")
    module, inside = imported.get(head, ("", None))
    path = [inside, *rest] if inside else rest
    if module.partition(".")[0] == PACKAGE and importlib.util.find_spec(module) is not None:
        found: Any = importlib.import_module(module if inside else PACKAGE)
        for word in path:
            found = getattr(found, word, None)
        if inspect.isclass(found) and issubclass(found, Strategy):
            return found
    raise ValueError(f"inherits from {words:.60}, which is no class of this file or of {PACKAGE}")
