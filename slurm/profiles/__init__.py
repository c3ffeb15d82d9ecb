"""Cluster profiles: YAML beside this file, or anywhere."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from slurm.profiles.schema import Profile, Resources, merged, validated

__all__ = ["Profile", "Resources", "load", "names"]

_SHIPPED = Path(__file__).parent


def names() -> list[str]:
    """The profiles that come with the suite."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yaml"))


def load(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Profile:
    """A shipped profile by name, or any profile by the path of its file, with some keys replaced.

    Args:
        overrides: keys of the profile; mappings (`env`, `extra`, `per_task`, …) are merged into the profile's.

    Raises:
        ValueError: the name, a key or a value is wrong; one line that says which and what was expected.
    """
    text = str(name_or_path)
    path = Path(text).expanduser() if "/" in text or text.endswith((".yaml", ".yml")) else _SHIPPED / f"{text}.yaml"
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if path.parent == _SHIPPED:
            near = difflib.get_close_matches(text, names(), n=1)
            hint = f"did you mean '{near[0]}'" if near else f"known: {', '.join(names())}"
            raise ValueError(f"profile: '{text}' is unknown; {hint}, or a path such as ./{text}.yaml?") from None
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise ValueError(f"profile: {path} cannot be read ({reason})") from None
    try:
        values = yaml.load(source, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"profile {path}: is not YAML ({' '.join(str(error).split())})") from None
    except ValueError as error:
        raise ValueError(f"profile {path}: {error}") from None
    if values is None:
        raise ValueError(f"profile {path}: is empty; expected keys and values")
    if not isinstance(values, dict):
        raise ValueError(f"profile {path}: holds a {type(values).__name__}; expected keys and values")
    return validated(Profile, merged({"name": path.stem, **values}, overrides or {}), f"profile {path.stem}")


class _Loader(yaml.SafeLoader):
    """YAML without two surprises: base 60, and keys given twice."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        self._refuse_base_60(node)
        return super().construct_yaml_int(node)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        self._refuse_base_60(node)
        return super().construct_yaml_float(node)

    @staticmethod
    def _refuse_base_60(node: yaml.ScalarNode) -> None:
        if ":" in str(node.value):
            raise ValueError(f"{node.value} must be quoted; without quotes YAML reads it as a number in base 60")

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"{key} is given twice")
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
