"""The comparison with the baseline, and ratios of arms timed in turns, on numbers made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import compare
import pytest
import turns


def run_of(**medians: tuple[float, float]) -> dict[str, Any]:
    """pytest-benchmark's JSON, as far as it is read: name → median (and fastest round) and reference."""
    return {
        "datetime": "2026-01-02T03:04:05+00:00",
        "machine_info": {
            "cpu": {"brand_raw": "Processor X", "count": 2},
            "node": "somebody's",
            "processor": "",
            "python_version": "3.11.7",
            "system": "Linux",
        },
        "benchmarks": [
            {"name": name, "stats": {"median": median, "min": median}, "extra_info": {"reference": reference}}
            for name, (median, reference) in medians.items()
        ],
    }


def measured(median: float, reference: float, fastest: float | None = None) -> dict[str, float]:
    return {"median": median, "min": median if fastest is None else fastest, "reference": reference}


BEFORE = {"a": measured(10.0, 2.0), "b": measured(0.1, 2.0)}


def test_a_machine_half_as_fast_changes_no_ratio() -> None:
    now = {"a": measured(20.0, 4.0), "b": measured(0.2, 4.0)}
    assert [row.ratio for row in compare.compare(now, BEFORE)] == [1.0, 1.0]
    assert compare.comparison_lines(now, BEFORE)[-1] == "2 compared; none above 1.5 ×"


def test_what_is_slower_by_more_than_half_is_named_first() -> None:
    now = {"a": measured(7.5, 1.0), "b": measured(0.08, 1.0)}
    rows = compare.compare(now, BEFORE)  # 7.5 over 5, and 0.08 over 0.05
    assert [(row.name, row.ratio, row.too_slow) for row in rows] == [("b", pytest.approx(1.6), True), ("a", 1.5, False)]
    lines = compare.comparison_lines(now, BEFORE)
    assert lines[1].split() == ["b", "80", "ms", "100", "ms", "1.60", "SLOWER"]
    assert lines[-1] == "2 compared; more than 1.5 × slower than the baseline: b"


def test_some_slow_rounds_are_not_slow_code() -> None:
    """A median of 3 × where the fastest round took 1.2 × is a neighbour's work; both at 2 × are the code's."""
    now = {"a": measured(30.0, 2.0, fastest=12.0), "b": measured(0.2, 2.0, fastest=0.2)}
    rows = compare.compare(now, BEFORE)
    assert [(row.name, row.ratio) for row in rows] == [("b", pytest.approx(2.0)), ("a", pytest.approx(1.2))]


def test_what_only_one_of_them_has_is_said_and_not_compared() -> None:
    lines = compare.comparison_lines({"a": BEFORE["a"], "c": measured(9.0, 1.0)}, BEFORE)
    assert lines[-3:] == ["not in the baseline: c", "only in the baseline: b", "1 compared; none above 1.5 ×"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda run: run["benchmarks"].clear(), "none were run"),
        (lambda run: run["benchmarks"].append(run["benchmarks"][0]), "'a' is there twice"),
        (lambda run: run["benchmarks"][0]["extra_info"].clear(), "'a' has no reference"),
    ],
)
def test_a_run_that_cannot_be_compared_is_refused(change: Any, named: str) -> None:
    run = run_of(a=(1.0, 1.0))
    change(run)
    with pytest.raises(ValueError, match=named):
        compare.times(run)


def test_from_a_run_to_a_baseline_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, stored = tmp_path / "1.json", tmp_path / "2.json", tmp_path / "baseline.json"
    first.write_text(json.dumps(run_of(a=(1.0, 1.0), b=(1.23456e-5, 0.5))))
    slower = run_of(a=(2.0, 1.0), b=(1.23456e-5, 0.5))
    slower["benchmarks"][0]["extra_info"]["ratios"] = {"a over b": [1.25, 1.1, 1.5]}
    second.write_text(json.dumps(slower))
    assert compare.main([str(first), "--baseline", str(stored), "--write"]) == 0
    written = json.loads(stored.read_text())
    assert written["date"] == "2026-01-02"
    assert written["machine"] == {"processor": "Processor X", "cores": 2, "system": "Linux"}
    assert written["seconds"]["b"] == {"median": 1.235e-5, "min": 1.235e-5, "reference": 0.5}
    assert compare.main([str(first), "--baseline", str(stored)]) == 0
    capsys.readouterr()
    assert compare.main([str(second), "--baseline", str(stored)]) == 1
    said = capsys.readouterr().out
    assert "a over b  1.250  (1.100 … 1.500)" in said
    assert said.endswith("slower than the baseline: a\n")
    assert compare.main([str(second), "--ratios"]) == 0


@pytest.mark.parametrize(("seconds", "text"), [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (4.56e-5, "45.6 µs")])
def test_times_are_written_in_a_unit_that_fits(seconds: float, text: str) -> None:
    assert compare.time_text(seconds) == text


def test_the_stored_baseline_can_be_read_and_speaks_of_no_machine_by_name() -> None:
    stored = json.loads(compare.BASELINE.read_text())
    assert compare.compare(stored["seconds"], stored["seconds"])[0].ratio == 1.0
    assert set(stored["machine"]) == {"processor", "cores", "system"}


def test_a_ratio_is_taken_within_rounds() -> None:
    """A machine that slows down by a hundred in the middle changes nothing."""
    base = [1.0] * 10 + [100.0] * 10
    own = [2.0] * 10 + [200.0] * 10
    assert turns.ratio(own, base) == (2.0, 2.0, 2.0)


def test_the_interval_of_a_median() -> None:
    """Of 25 rounds the 8th smallest and largest: P(fewer than 8 of 25 below the median) = 0.0216, from tables."""
    assert turns.ratio(range(1, 26), [1.0] * 25) == (13, 8, 18)
