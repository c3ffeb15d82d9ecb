"""Configurations of strategies: from a mapping (YAML, command line) to the strategy's dataclass, and back."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from strategies.framework.contract import Strategy


def make_config(cls: type[Strategy], mapping: Mapping[str, Any]) -> Any:
    """`cls.Config` with the given values over its defaults.

    Integers are accepted for floats; booleans are no integers; lists are accepted for tuples.

    Raises:
        ValueError: an unknown key, a value of the wrong type, or one the strategy calls impossible.
    """
    hints = get_type_hints(cls.Config)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(cls.Config)}
    values = {}
    for key, value in mapping.items():
        if key not in fields:
            raise ValueError(f"{cls.name}.{key}: {value!r} has no such parameter; {_known(str(key), fields)}")
        values[key] = _convert(f"{cls.name}.{key}", value, fields[key])
    try:
        return cls.Config(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{cls.name}.{error}") from error


def config_dict(config: Any) -> dict[str, Any]:
    """The configuration as JSON can hold it: every parameter, defaults included."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(config).items()
    }


def _known(key: str, fields: Mapping[str, Any]) -> str:
    if not fields:
        return "expected none: this strategy has no parameters"
    near = difflib.get_close_matches(key, fields, n=1, cutoff=0)[0]
    return f"expected one of {', '.join(fields)}; nearest is {near}"


def _convert(key: str, value: Any, hint: Any) -> Any:
    """`value` as `hint` wants it; only types that YAML can hold are supported."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        for choice in arguments:
            if type(value) is type(choice) and value == choice:
                return value
        near = difflib.get_close_matches(str(value), map(str, arguments), n=1, cutoff=0)[0]
        raise ValueError(f"{key}: {value!r} is none of {', '.join(map(repr, arguments))}; nearest is {near!r}")
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        rest = [argument for argument in arguments if argument is not type(None)]
        if len(rest) == 1:
            return _convert(key, value, rest[0])
        return _first_that_fits(key, value, rest, hint)
    if origin is tuple:
        if not isinstance(value, list | tuple) or (arguments[1:] != (...,) and len(value) != len(arguments)):
            raise ValueError(f"{key}: {value!r} is not {_words(hint)}")
        kinds = [arguments[0]] * len(value) if arguments[1:] == (...,) else arguments
        return tuple(
            _convert(f"{key}[{i}]", item, kind) for i, (item, kind) in enumerate(zip(value, kinds, strict=True))
        )
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError(f"{key}: {value} is not finite; expected a number")
        return float(value)
    if hint in (int, bool, str) and type(value) is hint:
        return value
    raise ValueError(f"{key}: {value!r} is {_words(type(value))}; expected {_words(hint)}")


def _first_that_fits(key: str, value: Any, hints: list[Any], union: Any) -> Any:
    for hint in hints:
        try:
            return _convert(key, value, hint)
        except ValueError:
            continue
    raise ValueError(f"{key}: {value!r} is {_words(type(value))}; expected {_words(union)}")


def _words(hint: Any) -> str:
    plain = {int: "an integer", float: "a number", bool: "true or false", str: "a text", type(None): "nothing"}
    return plain.get(hint) or (hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint))
