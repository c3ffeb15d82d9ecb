"""Running the rules: one call for a command line, one decorator for a third party's own tests."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from strategies.conformance.broken import Broken, NotApplicable
from strategies.conformance.lab import Lab
from strategies.conformance.rule import Outcome, Rule, locate_error
from strategies.conformance.rules import RULES
from strategies.framework.contract import Strategy


def check(
    cls: type[Strategy],
    config: Any = None,
    rules: Iterable[str] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Outcome]:
    """What every rule says about a strategy. Whatever the strategy raises is a failure of the rule that met it.

    Where a rule fails, those that presume it are not checked: all others presume that the strategy builds and routes.

    Args:
        cls: the strategy's class.
        config: its parameters; None: the defaults.
        rules: ids of the rules to check; None: all.
        expected_failures: id of a rule → why it is known to fail. Such a failure counts as waived, with the reason; a
            rule that passes although its failure was expected has failed.

    Raises:
        ValueError: an id that is no rule's.
    """
    expected = dict(expected_failures or {})
    _known([*expected, *(rules or ())])
    wanted = RULES if rules is None else [rule for rule in RULES if rule.id in set(rules)]
    lab = Lab(cls, config)
    outcomes: list[Outcome] = []
    failed: list[str] = []
    for rule in wanted:
        missing = [one for one in rule.presumes if one in failed]
        if missing:
            outcomes.append(Outcome(rule, "unchecked", f"presumes rule {missing[0]}"))
            continue
        outcome = _judge(rule, lab)
        if outcome.status == "failed":
            failed.append(rule.id)
        outcomes.append(_as_expected(outcome, expected[rule.id]) if rule.id in expected else outcome)
    return outcomes


def parametrize(
    cls: type[Strategy], config: Any = None, expected_failures: Mapping[str, str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A pytest decorator: one case per rule, with the rule's id; rules that do not apply are skipped with the reason.

        @parametrize(MyStrategy, expected_failures={"speed": "the solver is not vectorised yet"})
        def test_conformance(conforms):
            conforms()

    An expected failure is a strict xfail: the test fails once the rule passes.

    Raises:
        ValueError: an id that is no rule's.
    """
    import pytest

    expected = dict(expected_failures or {})
    _known(expected)

    def case(rule: Rule) -> Callable[[], None]:
        def conforms() -> None:
            outcome = _judge(rule, Lab(cls, config))
            if outcome.status == "waived":
                pytest.skip(outcome.message)
            if outcome.status == "failed":
                raise AssertionError(f"{rule.text} {outcome.message} ({outcome.where})")

        return conforms

    def marks(rule: Rule) -> list[Any]:
        if rule.id not in expected:
            return []
        return [pytest.mark.xfail(strict=True, raises=AssertionError, reason=expected[rule.id])]

    return pytest.mark.parametrize("conforms", [pytest.param(case(r), id=r.id, marks=marks(r)) for r in RULES])


def _known(ids: Iterable[str]) -> None:
    names = [rule.id for rule in RULES]
    for one in ids:
        if one not in names:
            near = difflib.get_close_matches(one, names, n=1, cutoff=0)[0]
            raise ValueError(f"rules: {one!r} is no rule; expected one of {', '.join(names)}; nearest is {near}")


def _judge(rule: Rule, lab: Lab) -> Outcome:
    with torch.random.fork_rng(devices=[]):
        try:
            rule.check(lab)
        except NotApplicable as reason:
            return Outcome(rule, "waived", str(reason))
        except Broken as broken:
            return Outcome(rule, "failed", str(broken), locate_error(lab.cls, broken, broken.method))
        except Exception as error:
            first_line = (str(error).splitlines() or [""])[0]
            return Outcome(rule, "failed", f"{type(error).__name__}: {first_line}", locate_error(lab.cls, error))
    return Outcome(rule, "passed")


def _as_expected(outcome: Outcome, reason: str) -> Outcome:
    if outcome.status == "failed":
        return Outcome(outcome.rule, "waived", f"expected to fail: {reason}")
    message = f"{outcome.status}, although it was expected to fail: {reason}"
    return Outcome(outcome.rule, "failed", message)
