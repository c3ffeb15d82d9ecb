"""Rule 17: whatever a strategy computes with lies on the layer's device. No accelerator is needed to see it.

The layer's tensors (the strategy's parameters and buffers, and all it is given) are marked, as if they lay on an
accelerator: they say that they lie on `THERE`, and what is made or moved there is marked too. All others lie on the
host. Where the two meet, an accelerator would refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from strategies.conformance.broken import Broken
from strategies.conformance.lab import PHASES, Batch, Lab, route, take_step
from strategies.framework.contract import LayerSpec, RouteContext

STEPS = 2  # the second meets what the first kept
MOVES: set[Callable[..., Any]] = {Tensor.to, Tensor.type_as, Tensor.copy_}  # between host and device
INDEXES: set[Callable[..., Any]] = {Tensor.__getitem__, Tensor.__setitem__}  # from the host, too
READS: set[Callable[..., Any]] = {Tensor.numpy, Tensor.__array__}  # by the host
STACKS = (torch.stack, torch.hstack, torch.vstack, torch.row_stack, torch.dstack, torch.column_stack)
JOINS: set[Callable[..., Any]] = set(STACKS)  # these take no scalars from the host
THERE = torch.device("cpu:0")  # torch takes it for "cpu", which is the host here, and tells the two apart
ADVICE = "make it with device= of a tensor at hand (x.device, not its type), or register it as a buffer"


def stays_on_its_device(lab: Lab) -> None:
    """Rule 17."""
    for progress in PHASES:
        strategy = lab.build(Spec(**vars(lab.spec())))
        for tensor in chain(strategy.parameters(), strategy.buffers()):
            tensor.__class__ = OnDevice  # in place, as `.to(device)` moves them
        for index in range(STEPS):
            given = lab.batch(seed=index)
            hidden_TD, tokens_T = given.hidden_TD.as_subclass(OnDevice), given.tokens_T.as_subclass(OnDevice)
            batch = Batch(hidden_TD, tokens_T, given.length)
            context = RouteContext(sequence_length=batch.length, sum_over_ranks=_all_reduce)
            with Accelerator():
                strategy.schedule(progress)
                for training in (False, True):
                    routing = route(strategy.train(training), batch, context)
                    for name, value in {**vars(routing), **routing.losses, **routing.pooled}.items():
                        if isinstance(value, Tensor):
                            _lies_there(value, name)
                take_step(strategy, [batch], progress, sum_over_ranks=_all_reduce)
                reset = strategy.experts_to_reset()
                if reset is not None:
                    _lies_there(reset.source_E, "source_E")


def _all_reduce(value: Tensor) -> Tensor:
    return _lies_there(value, "what sum_over_ranks is given")


def _lies_there(value: Tensor, name: str) -> Tensor:
    if not isinstance(value, OnDevice):
        raise Broken(f"on an accelerator {name} would lie on the host; {ADVICE}")
    return value


class OnDevice(Tensor):
    """A tensor on the layer's device; what is made of it lies there too."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]  # nobody sets it
        return THERE

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in READS:
            raise Broken(f"an accelerator would refuse {func.__name__}(); expected .cpu() before it")
        indexed = func in INDEXES and isinstance(args[0], OnDevice)
        operands = list(_tensors(args[:1] if indexed else (args, kwargs)))
        there = any(isinstance(one, OnDevice) for one in operands)
        # scalars may come from the host
        here = any(not isinstance(one, OnDevice) and (one.ndim or func in JOINS) for one in operands)
        if there and here and func not in MOVES:
            raise Broken(f"an accelerator would refuse {func.__name__}() with a tensor that lies on the host; {ADVICE}")
        return super().__torch_function__(func, types, args, kwargs)


class Accelerator(TorchFunctionMode):
    """Marks what is made on the layer's device or moved there, and takes the mark from what is moved to the host."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if not isinstance(made, Tensor):
            return made
        place = torch.device("cpu") if func is Tensor.cpu else _named(func, args, kwargs)
        if place is not None:
            made = made.as_subclass(OnDevice if place == THERE else Tensor)
        if isinstance(made, OnDevice) and isinstance(kwargs.get("generator"), HostGenerator):
            raise Broken(
                f"an accelerator would refuse {func.__name__}() with a generator of the host, as spec.generator(…) is; "
                "draw on the host and move it with .to"
            )
        return made


class HostGenerator(torch.Generator):
    """What `spec.generator` makes, told from a generator of the device."""


@dataclass(frozen=True, kw_only=True)
class Spec(LayerSpec):
    """A layer whose generators can be told."""

    def generator(self, stream: str) -> torch.Generator:
        generator = HostGenerator()
        generator.set_state(super().generator(stream).get_state())
        return generator


def _named(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.device | None:
    """The device that a call names, by itself or as a string."""
    said = [*args[1:2], *kwargs.values()] if func is Tensor.to else [kwargs.get("device")]
    return next((torch.device(one) for one in said if isinstance(one, torch.device | str)), None)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors among arguments, however deep."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _tensors(one)
