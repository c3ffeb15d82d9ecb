"""Ready-made builds of MegaBlocks' extensions, which nobody has to compile: `kernels-community/megablocks` on the
Hugging Face Hub, one folder for each torch and CUDA (`torch211-cxx11-cu130-x86_64-linux` and so on).

Used only where asked for, because it is code from elsewhere: `EQUIPOISE_MEGABLOCKS_BUILD` names a folder of such a
build, or says `hub` to have the package `kernels` fetch the one that fits.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

VARIABLE = "EQUIPOISE_MEGABLOCKS_BUILD"
REPOSITORY, VERSION = "kernels-community/megablocks", 1
FUNCTIONS = ("sort", "histogram", "inclusive_cumsum", "exclusive_cumsum", "replicate_forward", "replicate_backward")


def load() -> ModuleType | None:
    """The build that the environment names; None where it names none.

    Raises:
        ValueError: it names one that is not there, or that does not fit this torch.
    """
    asked = os.environ.get(VARIABLE)
    if not asked:
        return None
    try:
        found = _from_hub() if asked == "hub" else _from_folder(Path(asked))
    except (ImportError, OSError) as error:
        raise ValueError(
            f"{VARIABLE}={asked!r}: cannot be loaded ({error}); expected a build for this torch"
        ) from error
    missing = [name for name in (*FUNCTIONS, "indices", "gg_ops", "gg_backend") if not hasattr(found, name)]
    if missing:
        raise ValueError(f"{VARIABLE}={asked!r}: has no {', '.join(missing)}; expected a build of {REPOSITORY}")
    return found


def _from_hub() -> ModuleType:
    return import_module("kernels").get_kernel(REPOSITORY, version=VERSION)


def _from_folder(folder: Path) -> ModuleType:
    """A package of its own name: the build also calls itself `megablocks`, as the released Python package does."""
    home = folder if (folder / "__init__.py").is_file() else folder / "megablocks"
    name = "equipoise_megablocks_build"
    spec = spec_from_file_location(name, home / "__init__.py", submodule_search_locations=[str(home)])
    if spec is None or spec.loader is None or not (home / "__init__.py").is_file():
        raise ImportError(f"no package in {folder}")
    package = module_from_spec(spec)
    sys.modules[name] = package
    spec.loader.exec_module(package)
    return package


def extension(build: ModuleType) -> ModuleType:
    """What MegaBlocks imports as `megablocks_ops`, from a build: the same functions, but for how `indices` gives its
    result."""
    module = ModuleType("megablocks_ops")
    for name in FUNCTIONS:
        setattr(module, name, getattr(build, name))

    def indices(padded_ends_E: Any, block: int, rows: int, columns: int, out_B: Any) -> None:
        out_B.copy_(build.indices(padded_ends_E, block, rows, columns).view_as(out_B))

    module.indices = indices  # type: ignore[attr-defined]
    module.built = build.__name__  # type: ignore[attr-defined]
    return module
