"""Makes the released MegaBlocks importable here: stand-ins for missing extensions, the interpreter without a GPU."""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

import torch

from suite.backends.megablocks import built, torch_gmm, torch_ops

OPS, GMM = "megablocks_ops", "grouped_gemm"
STAND_INS = {OPS: "torch-ops", GMM: "torch-gmm"}  # as labels name them
HELP = "docs/gpu.md says how to install what it needs"


def refuse(reason: str) -> ValueError:
    """The error every module here raises."""
    return ValueError(f"backend megablocks: {reason}")


@cache
def prepare() -> frozenset[str]:
    """Import MegaBlocks. Returns the extensions that a stand-in replaces.

    Raises:
        ValueError: a package is missing, an extension or a build is broken, or Triton was imported too early to be
            interpreted.
    """
    interpreted = not torch.cuda.is_available()
    if interpreted:
        _interpret()
    build = None if interpreted else built.load()
    replaced = frozenset(name for name in STAND_INS if build is None and (interpreted or not _works(name)))
    if build is not None:
        sys.modules[OPS] = built.extension(build)
        _put_gmm(build.gg_ops, build.gg_backend)
    if OPS in replaced:
        sys.modules[OPS] = torch_ops
    if GMM in replaced:
        _put_gmm(torch_gmm, torch_gmm)
    try:
        kernels = import_module("megablocks.backend.kernels")
        for name in ("megablocks.ops", "megablocks.layers.dmoe", "stk.ops"):
            import_module(name)
    except ImportError as error:
        raise refuse(f"cannot be imported ({error}); {HELP}") from error
    if interpreted:
        _tune_nothing(kernels)
    return replaced


def module(name: str) -> Any:
    """A module of MegaBlocks or of what it needs, once `prepare` has seen to it that it can be imported."""
    prepare()
    return import_module(name)


def labels(*extensions: str) -> tuple[str, ...]:
    """What stands in for these extensions, as labels name it; `built` for a ready-made build of them."""
    replaced = prepare()
    if isinstance(getattr(sys.modules[OPS], "built", None), str):
        return ("built",)
    return tuple(STAND_INS[name] for name in extensions if name in replaced)


def _put_gmm(ops: ModuleType, backend: ModuleType) -> None:
    """Have `grouped_gemm.ops` and `grouped_gemm.backend` be these."""
    package = module_from_spec(ModuleSpec(GMM, loader=None, is_package=True))
    for part, held in (("ops", ops), ("backend", backend)):
        setattr(package, part, held)
        sys.modules[f"{GMM}.{part}"] = held
    sys.modules[GMM] = package


def _works(name: str) -> bool:
    """Whether an extension is installed; one that is there and broken is the user's to mend, not ours to hide."""
    if find_spec(name) is None:
        return False
    try:
        import_module(name)
    except ImportError as error:
        raise refuse(
            f"{name} is installed but cannot be imported ({error}); build it against this torch, or remove it"
        ) from error
    return True


def _interpret() -> None:
    """Triton decides at its own import whether functions are compiled or interpreted."""
    if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
        raise refuse("Triton was imported before; without a GPU set TRITON_INTERPRET=1 before anything imports it")
    os.environ["TRITON_INTERPRET"] = "1"


def _tune_nothing(kernels: object) -> None:
    """Leave each kernel its configuration with the widest block: the interpreter would time all of them."""
    for kernel in vars(kernels).values():
        if len(getattr(kernel, "configs", ())) > 1:
            kernel.configs = [max(kernel.configs, key=lambda config: config.kwargs["BLOCK_X"])]
