"""A digest of a rule's code, so that editing the rule gives its trials new keys."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from strategies.framework.contract import Strategy
from strategies.framework.interface import Routing

PACKAGE = "strategies"


def source_digest(cls: type[Strategy]) -> str:
    """SHA-256 over the code a rule is made of, comments, docstrings and layout left out.

    That is every module defining a class between `cls` and `Strategy`, and every module of `strategies`, or of the
    package that the rule comes in, that they import, directly or not. The contract itself is not part of a rule: what
    it changes, it changes for all.
    """
    return digest({}, [ancestor.__module__ for ancestor in cls.__mro__[: cls.__mro__.index(Strategy)]])


def digest(sources: dict[str, str], waiting: list[str]) -> str:
    """SHA-256 over code by module, and that of the modules still waiting with all of their own that they import."""
    while waiting:
        module = waiting.pop()
        if module in (Strategy.__module__, Routing.__module__) or module in sources:
            continue
        file = source_file(module)
        if file is None:
            raise ValueError(f"{module}: no Python source; expected the text of a rule, for its digest")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        waiting += own_imports(tree, module, file.name == "__init__.py")
        sources[module] = shape(bare(tree))
    # A plug-in's module name depends on where its file lies; its code doesn't.
    return hashlib.sha256("\0".join(sorted(sources.values())).encode()).hexdigest()


def shape(value: Any) -> str:
    """A syntax tree as text that does not depend on the Python that parsed it: `ast.unparse` writes f-strings otherwise
    from 3.12 on, and `ast.dump` shows fields that older versions lack."""
    if isinstance(value, ast.AST):
        fields = ((name, held) for name, held in ast.iter_fields(value) if held is not None and held != [])
        return f"{type(value).__name__}({', '.join(f'{name}={shape(held)}' for name, held in fields)})"
    return f"[{', '.join(map(shape, value))}]" if isinstance(value, list) else repr(value)


def own_imports(tree: ast.Module, module: str = "", is_package: bool = False) -> list[str]:
    """The modules of `strategies`, and of the package that the module itself lies in, that it imports.

    A name that `strategies` itself only passes on stands for the module it comes from.
    """
    parent = module if is_package else module.rpartition(".")[0]
    known = {local: name for local, name, _ in imports(tree, parent)}
    named = {name for _, *names in imports(tree, parent) for name in names}
    named |= {name for node in ast.walk(tree) if isinstance(node, ast.Attribute) and (name := dotted(node, known))}
    found = set()
    for name in named:
        top, _, rest = name.partition(".")
        passed = passed_on() if top == PACKAGE else {}
        if rest == "*":
            found |= set(passed.values())
        elif rest in passed:
            found.add(passed[rest])
        elif top in (PACKAGE, module.partition(".")[0]) and name != PACKAGE and source_file(name):
            found.add(name)
    return sorted(found)


def imports(tree: ast.Module, parent: str = "") -> Iterator[tuple[str, str, str]]:
    """For each name that a module imports: what it is called here, what that stands for, and the module it is from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            above = parent.split(".")[: parent.count(".") + 2 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((alias.asname or alias.name, f"{module}.{alias.name}", module) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield alias.asname or top, alias.name if alias.asname else top, alias.name


def dotted(node: ast.expr, known: dict[str, str]) -> str | None:
    """What an expression like `a.b.c` stands for, `a` being an imported name."""
    if isinstance(node, ast.Attribute):
        head = dotted(node.value, known)
        return head and f"{head}.{node.attr}"
    return known.get(node.id) if isinstance(node, ast.Name) else None


@cache
def passed_on() -> dict[str, str]:
    """The names that this package passes on, and the modules they come from."""
    tree = ast.parse(Path(inspect.getfile(sys.modules[PACKAGE])).read_text(encoding="utf-8"))
    return {local: module for local, _, module in imports(tree)}


def source_file(module: str) -> Path | None:
    """Where a module's Python source is, None if there is none; nothing is imported to find it."""
    top, *rest = module.split(".")
    loaded = sys.modules.get(module) or sys.modules.get(top)
    file, places = getattr(loaded, "__file__", None), getattr(loaded, "__path__", [])
    for depth in range(1, len(rest) + 1) if module not in sys.modules else ():
        spec = PathFinder.find_spec(".".join([top, *rest[:depth]]), places)
        file, places = (spec.origin, spec.submodule_search_locations or []) if spec else (None, [])
    return Path(file) if file and file.endswith(".py") else None


def bare(tree: ast.Module) -> ast.Module:
    """The tree without docstrings (parsing already dropped the comments)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return tree
