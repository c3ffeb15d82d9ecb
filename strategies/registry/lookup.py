"""Which strategies there are: the files of `strategies/`, installed plug-ins, and files named on the command line."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from strategies.framework.contract import LayerSpec, Strategy
from strategies.registry.configs import make_config

ENTRY_POINTS = "equipoise.strategies"

_plugins: dict[str, type[Strategy]] = {}


def available() -> dict[str, type[Strategy]]:
    """Every strategy by name, sorted: built in, installed, and loaded by `load_plugin`.

    An entry point that does not work is skipped with a `RuntimeWarning` that names it.
    """
    return dict(sorted({**_built_in(), **_installed(), **_plugins}.items()))


def get(name: str) -> type[Strategy]:
    """The strategy called `name`.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    strategies = available()
    if name not in strategies:
        near = difflib.get_close_matches(str(name), strategies, n=1, cutoff=0)[0]
        raise ValueError(
            f"strategy: {name!r} is unknown; nearest is {near!r}; expected one of {', '.join(strategies)}, or one of a "
            "plug-in's file (--plugin FILE)"
        )
    return strategies[name]


def build(
    cls: type[Strategy], spec: LayerSpec, config: Any = None, terms: Mapping[str, float] | None = None
) -> Strategy:
    """A strategy for one layer; `config` is a `cls.Config`, a mapping for `make_config`, or None for the defaults."""
    return cls(spec, make_config(cls, config) if isinstance(config, Mapping) else config, terms)


def load_plugin(path: str | Path) -> list[type[Strategy]]:
    """Load a file that defines strategies and make them available. Loading it again replaces what it gave before.

    Raises:
        ValueError: the file cannot be read or imported, defines no strategy, leaves something out, or takes a name that
            is already used; the message starts with `file:line`.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise ValueError(f"{path}: there is no such file; expected a Python file that defines a strategy")
    module = _import_file(file)
    classes = _strategies_of(module)
    if not classes:
        raise ValueError(f"{file}:1: defines no strategy; expected a subclass of Strategy with a `name`")
    names = [cls.__dict__.get("name") for cls in classes]
    for cls, name in zip(classes, names, strict=True):
        where = f"{file}:{_line(cls)}"
        problem = _problem(cls)
        if problem:
            raise ValueError(f"{where}: {cls.__name__} {problem}")
        other = {**_built_in(), **_installed(), **_plugins}.get(str(name))
        if names.count(name) > 1 or (other is not None and _file(other) != file):
            raise ValueError(f"{where}: {cls.__name__}.name {name!r} is already taken; expected a name of its own")
    for name in [name for name, cls in _plugins.items() if _file(cls) == file]:
        del _plugins[name]
    _plugins.update({cls.name: cls for cls in classes})
    return classes


@functools.cache
def _built_in() -> dict[str, type[Strategy]]:
    found = {}
    for file in sorted(Path(__file__).parents[1].glob("*.py")):
        if re.search(r"^    name = ", file.read_text(encoding="utf-8"), re.MULTILINE):  # the mark of a rule's file
            module = importlib.import_module(f"strategies.{file.stem}")
            found.update({cls.name: cls for cls in _strategies_of(module)})
    return found


@functools.cache
def _installed() -> dict[str, type[Strategy]]:
    found: dict[str, type[Strategy]] = {}
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            loaded = entry.load()
            for cls in _strategies_of(loaded) if isinstance(loaded, ModuleType) else [loaded]:
                problem = _problem(cls)
                if problem:
                    raise ValueError(f"{getattr(cls, '__name__', cls)!s} {problem}")
                if cls.name in _built_in() or cls.name in found:
                    raise ValueError(f"the name {cls.name!r} is already taken")
                found[cls.name] = cls
        except Exception as error:  # whatever a stranger's package does, the others go on
            warnings.warn(
                f"{ENTRY_POINTS}: entry point {entry.name} = {entry.value} is skipped: {type(error).__name__}: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
    return found


def _import_file(file: Path) -> ModuleType:
    """The file as a module, under a name that cannot meet another's."""
    name = f"equipoise_plugin_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file, loader=_Fresh(name, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        if isinstance(error, SyntaxError):
            line = error.lineno or 1
        else:
            frames = traceback.extract_tb(error.__traceback__)
            line = next((frame.lineno or 1 for frame in reversed(frames) if frame.filename == str(file)), 1)
        words = " ".join(str(error).split())
        raise ValueError(f"{file}:{line}: does not import: {type(error).__name__}: {words}") from error
    return module


class _Fresh(importlib.machinery.SourceFileLoader):
    """Always compiles: a plug-in edited twice in one second must not come from the bytecode cache."""

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)


def _strategies_of(module: ModuleType) -> list[type[Strategy]]:
    """The strategies a module defines, in its order; helpers and imported classes are none."""
    return [
        cls
        for cls in vars(module).values()
        if inspect.isclass(cls)
        and issubclass(cls, Strategy)
        and cls.__module__ == module.__name__
        and not cls.__name__.startswith("_")
        and ("name" in vars(cls) or not _has_named_subclass(cls, vars(module).values()))
    ]


def _has_named_subclass(cls: type[Strategy], others: Iterable[Any]) -> bool:
    return any(inspect.isclass(other) and other is not cls and issubclass(other, cls) for other in others)


def _problem(cls: Any) -> str | None:
    """What is wrong with a class that wants to be a strategy (None: nothing)."""
    if not (inspect.isclass(cls) and issubclass(cls, Strategy)):
        return "is not a strategy; expected a subclass of Strategy"
    if not isinstance(vars(cls).get("name"), str):  # an inherited name is another strategy's
        return 'has no name of its own; expected `name = "…"`, how suites call it'
    if not isinstance(getattr(cls, "title", None), str):
        return 'has no title; expected `title = "…"`, how tables call it'
    if not re.fullmatch(r"[a-z][a-z0-9_]*", cls.name):
        return f"has name {cls.name!r}; expected small letters, digits and underscores"
    config = getattr(cls, "Config", None)
    if config is not None and "__dataclass_params__" not in vars(config):  # its values would be its parent's
        return "has a Config that is no dataclass; expected `@dataclass(frozen=True, kw_only=True)` over it"
    missing = [method for method in dir(cls) if getattr(getattr(cls, method), "__isabstractmethod__", False)]
    if missing:
        method = missing[0]
        return f"misses a method; expected {method}{inspect.signature(getattr(cls, method))}"
    return None


def _file(cls: type[Strategy]) -> Path | None:
    source = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return Path(source).resolve() if source else None


def _line(cls: type[Strategy]) -> int:
    try:
        return inspect.getsourcelines(cls)[1]
    except OSError:
        return 1
