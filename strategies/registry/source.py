"""A digest of a rule's code, so that editing the rule gives its trials new keys."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from strategies.framework.contract import Strategy
from strategies.framework.interface import Routing


def source_digest(cls: type[Strategy]) -> str:
    """SHA-256 over the code a rule is made of, comments, docstrings and layout left out.

    That is every module defining a class between `cls` and `Strategy`, and every module of `strategies` they import,
    directly or not. The contract itself is not part of a rule: what it changes, it changes for all.
    """
    return digest({}, [inspect.getmodule(ancestor) for ancestor in cls.__mro__[: cls.__mro__.index(Strategy)]])


def digest(sources: dict[str, str], waiting: list[ModuleType | None]) -> str:
    """SHA-256 over code by module, and that of the modules still waiting with all they import of this package."""
    contract = (inspect.getmodule(Strategy), inspect.getmodule(Routing))
    while waiting:
        module = waiting.pop()
        if module is None or module in contract or module.__name__ in sources:
            continue
        tree = ast.parse(Path(inspect.getsourcefile(module) or "").read_text(encoding="utf-8"))
        waiting += own_imports(tree)
        sources[module.__name__] = shape(bare(tree))
    # A plug-in's module name depends on where its file lies; its code doesn't.
    return hashlib.sha256("\0".join(sorted(sources.values())).encode()).hexdigest()


def shape(value: Any) -> str:
    """A syntax tree as text that does not depend on the Python that parsed it: `ast.unparse` writes f-strings otherwise
    from 3.12 on, and `ast.dump` shows fields that older versions lack."""
    if isinstance(value, ast.AST):
        fields = ((name, held) for name, held in ast.iter_fields(value) if held is not None and held != [])
        return f"{type(value).__name__}({', '.join(f'{name}={shape(held)}' for name, held in fields)})"
    return f"[{', '.join(map(shape, value))}]" if isinstance(value, list) else repr(value)


def own_imports(tree: ast.Module) -> list[ModuleType | None]:
    """The modules of this package that a module imports."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]  # a name, or a module
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    # The package itself only passes names on.
    return [sys.modules.get(name) for name in names if name.startswith("strategies.")]


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
