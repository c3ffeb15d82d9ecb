"""The expert-parallel model against a case worked by hand."""

import numpy as np
import pytest

from results.statistics.expert_parallel import Machine, balanced_seconds, device_load, step_seconds, sweep

# One step, two layers, four experts on two devices.
LOAD = np.array([[[6, 2, 1, 3], [3, 3, 3, 3]]])
MACHINE = Machine(
    seconds_per_layer=10.0,
    seconds_per_row=2.0,
    bytes_per_row=8.0,
    exchanges=4,
    bandwidth=16.0,
    latency=5.0,
    rest_seconds=100.0,
)


def test_contiguous_by_hand():
    # Layer 0: devices 6 + 2 = 8 and 1 + 3 = 4 rows, so 10 + 2·8 = 26; exchanged 4·8·8/2 = 128 bytes, 128/16 + 5 = 13.
    # Layer 1: 6 and 6 rows, 10 + 12 = 22; 4·8·6/2 = 96 bytes, 6 + 5 = 11. In all 100 + 26 + 13 + 22 + 11 = 172.
    assert device_load(LOAD, 2).tolist() == [[[8, 4], [6, 6]]]
    assert step_seconds(LOAD, 2, MACHINE).tolist() == [172.0]


def test_greedy_by_hand():
    # 6 goes to device 0, 3 to 1, 2 to 1 (which is then full), 1 to 0: 7 and 5. So layer 0 takes 24 + 7 + 5 = 36.
    assert device_load(LOAD, 2, "greedy").tolist() == [[[7, 5], [6, 6]]]
    assert step_seconds(LOAD, 2, MACHINE, "greedy").tolist() == [100.0 + 24 + 12 + 22 + 11]


def test_the_slowest_device_is_taken_per_layer_not_over_all():
    # Each layer overloads another device: maxima of sums would see 4 + 4 on both.
    load = np.array([[[4, 0], [0, 4]]])
    free = Machine(0, 1, 0, 4, 1, 0, 0)
    assert step_seconds(load, 2, free).tolist() == [8.0]


def test_one_device_exchanges_nothing():
    assert step_seconds(LOAD, 1, MACHINE).tolist() == [100.0 + 2 * (10 + 2 * 12)]


def test_more_devices_than_experts_share_an_expert():
    # Eight devices, two per expert: the heaviest carries 6/2 = 3 rows in layer 0 and 1.5 in layer 1.
    sent = 4 * 8 * 7 / 8 / 16
    expected = 100 + (10 + 2 * 3 + 3 * sent + 5) + (10 + 2 * 1.5 + 1.5 * sent + 5)
    assert step_seconds(LOAD, 8, MACHINE) == pytest.approx([expected])


def test_balanced_load_costs_nothing_extra():
    even = np.full((3, 2, 8), 5)
    for count in (1, 2, 8, 64):
        assert step_seconds(even, count, MACHINE) == pytest.approx(balanced_seconds(even, count, MACHINE))


def test_greedy_is_never_worse_than_the_heaviest_expert_allows_and_differs_from_contiguous():
    load = np.sort(np.random.default_rng(0).pareto(1.5, (1, 3, 64)), -1)
    greedy = device_load(load, 8, "greedy")
    assert greedy.sum(-1) == pytest.approx(load.sum(-1))
    assert (greedy.max(-1) < device_load(load, 8).max(-1)).all()


def test_sweep_weak_scaling_and_counts_that_do_not_fit():
    table = sweep(LOAD, [1, 2, 3, 4, 4096], MACHINE, rows_per_device=12)
    assert [row["devices"] for row in table] == [1, 2, 4, 4096]
    # Two devices, 24 rows a layer: 16 and 12 on the busier one, so MaxVio 1/3 and 0.
    assert table[1]["device_max_vio"] == pytest.approx(1 / 6)
    assert table[1]["seconds"] == pytest.approx(100 + (10 + 32 + 16 + 5) + (10 + 24 + 12 + 5))
    assert table[1]["balanced_seconds"] == pytest.approx(100 + 2 * (10 + 24 + 12 + 5))
    assert table[1]["slowdown"] == pytest.approx(table[1]["seconds"] / table[1]["balanced_seconds"])


@pytest.mark.parametrize(("devices", "placement", "message"), [(3, "contiguous", "3 do not"), (2, "best", "'best'")])
def test_impossible_layouts_are_named(devices, placement, message):
    with pytest.raises(ValueError, match=message):
        device_load(LOAD, devices, placement)


def test_thousands_of_devices_are_quick(benchmark):
    load = np.random.default_rng(0).integers(1, 100, (200, 4, 256))
    table = benchmark(sweep, load, [2**k for k in range(13)], None, "greedy")
    assert len(table) == 13
