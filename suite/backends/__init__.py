"""How the experts of a layer are computed. Every backend gives the same numbers; they differ in speed and in hardware.

A backend is a function `(hidden_TD, plan, w_in_EDF, w_out_EFD) -> out_TD` under the name it is listed with here.
Experts are SwiGLU networks: `w_in_EDF` holds gate and up projections side by side, (E, D, 2F); `w_out_EFD` is
(E, F, D).

Shapes: T tokens, D width, E experts, F expert width, A assignments, K assignments per token.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

from suite.backends.dispatch import DispatchPlan, plan_dispatch
from suite.backends.precision import ExpertFunction, in_autocast_dtype


@dataclass(frozen=True)
class Backend:
    """What `equipoise list backends` shows; `load` imports the implementation, and says why where it cannot."""

    name: str
    title: str
    module: str

    def load(self) -> ExpertFunction:
        """The function, in autocast's dtype where autocast is on.

        Raises:
            ValueError: a package it needs is missing or does not work here.
        """
        return in_autocast_dtype(import_module(self.module).experts)

    def label(self) -> str:
        """How records name it: its name, and after it what stands in for extensions that are not there."""
        return "+".join([self.name, *getattr(import_module(self.module), "STAND_INS", ())])


_BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("reference", "a plain loop over experts: obviously right, slow", "suite.backends.reference"),
        Backend("grouped", "sort once, then torch's grouped matrix product: CPU and GPU", "suite.backends.grouped"),
        Backend(
            "megablocks",
            "MegaBlocks' dropless experts, fed by our routing: grouped products",
            "suite.backends.megablocks.grouped",
        ),
        Backend(
            "megablocks-sparse",
            "the same as block-sparse products: widths that 128 divides",
            "suite.backends.megablocks.sparse",
        ),
        Backend(
            "megablocks-parallel",
            "the same with the experts spread over the ranks: all-to-all before and after",
            "suite.backends.megablocks.parallel",
        ),
    )
}


def available() -> list[Backend]:
    """All backends there are."""
    return list(_BACKENDS.values())


def get(name: str) -> Backend:
    """The backend of that name; ValueError with the nearest name if there is none."""
    if name not in _BACKENDS:
        near = get_close_matches(name, _BACKENDS, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"backend: {name!r} is unknown; expected one of {', '.join(_BACKENDS)} (did you mean {near!r}?)"
        )
    return _BACKENDS[name]


__all__ = ["Backend", "DispatchPlan", "ExpertFunction", "available", "get", "plan_dispatch"]
