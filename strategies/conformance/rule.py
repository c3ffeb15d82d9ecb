"""What a rule of conformance is, what it said, and where in the strategy's own file a broken one is."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from strategies.conformance.lab import Lab
from strategies.framework.contract import Strategy

Status = Literal["passed", "failed", "waived", "unchecked"]


@dataclass(frozen=True)
class Rule:
    """One rule: what it demands in words, and the check that raises `Broken` or `NotApplicable`."""

    id: str  # how tests and the command line call it
    number: int
    text: str  # the rule in words
    check: Callable[[Lab], None]
    presumes: tuple[str, ...] = ("constructs", "routes")  # ids of rules without which it would say what is not so


@dataclass(frozen=True)
class Outcome:
    """What one rule said about one strategy."""

    rule: Rule
    status: Status
    message: str = ""  # why it failed, was waived or is unchecked; empty if it passed
    where: str = ""  # file:line in the strategy's own code, if it failed

    def __str__(self) -> str:
        text = f"{self.rule.number:2d} {self.rule.id}: {self.status}"
        if self.message:
            text += f": {self.message}"
        return f"{text} ({self.where})" if self.where else text


def locate(cls: type[Strategy], method: str) -> str:
    """`file:line` of the class's own `method`, or of the class where it inherits it."""
    own = vars(cls).get(method, cls)
    function = inspect.unwrap(getattr(own, "__func__", own))
    try:
        return f"{inspect.getsourcefile(function)}:{inspect.getsourcelines(function)[1]}"
    except (OSError, TypeError):  # built interactively: there is no file to point at
        return cls.__qualname__


def locate_error(cls: type[Strategy], error: BaseException, method: str = "") -> str:
    """`file:line` of the innermost frame of `error` that lies in the class's own file, or as `locate` has it."""
    own = locate(cls, "").rpartition(":")[0]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == own:
            return f"{frame.filename}:{frame.lineno}"
    return locate(cls, method)
