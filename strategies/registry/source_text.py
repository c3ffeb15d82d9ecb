"""The digest of a rule from its text alone: a stranger's plug-in is parsed, never imported."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import sys
from typing import Any

from strategies.framework.contract import Strategy
from strategies.registry.source import PACKAGE, bare, digest, dotted, imports, own_imports, shape

OTHERS = ("torch", "numpy", "scipy")  # what a plug-in may import besides the standard library and this package


def text_digest(name: str, text: str) -> str:
    """What `source_digest` gives for the strategy `name` once the text is a plug-in.

    Raises:
        ValueError: the text is no Python, defines no such strategy, or is not whole without other files.
    """
    try:
        tree = ast.parse(text)
        classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        named = [node for node in classes.values() if _name_of(node) == name]
        if len(named) != 1:
            raise ValueError(f'{len(named)} classes with name = "{name}"; expected one')
        _check_imports(tree)
        known = {local: stands_for for local, stands_for, _ in imports(tree)}
        waiting = _bases(named[0], classes, known) + own_imports(tree)
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


def _bases(node: ast.ClassDef, classes: dict[str, ast.ClassDef], known: dict[str, str]) -> list[str]:
    """The modules of this package that a class inherits from."""
    modules: list[str] = []
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes and base.id != node.name:
            modules += _bases(classes[base.id], classes, known)
            continue
        cls = _class_of(base, known)
        modules += [ancestor.__module__ for ancestor in cls.__mro__[: cls.__mro__.index(Strategy)]]
    return modules


def _class_of(base: ast.expr, known: dict[str, str]) -> type[Strategy]:
    """A class of this package, from how a plug-in calls it."""
    name = dotted(base, known) or ""
    if name.partition(".")[0] == PACKAGE:
        try:
            found: Any = pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            found = None
        if inspect.isclass(found) and issubclass(found, Strategy):
            return found
    raise ValueError(f"inherits from {ast.unparse(base):.60}, which is no class of this file or of {PACKAGE}")
