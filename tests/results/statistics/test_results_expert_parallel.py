"""The expert-parallel model against cases worked by hand, and the machines' files."""

import json
from pathlib import Path

import numpy as np
import pytest

from results.statistics.expert_parallel import DEVICES, device_load, device_rows, mean_device_rows, sweep
from results.statistics.machine import Machine, load, names

GPU = Path(__file__).parents[3] / "results" / "published" / "gpu"

# One step, two layers, four experts on two devices; six tokens choose two experts in each layer.
LOAD = np.array([[[6, 2, 1, 3], [3, 3, 3, 3]]])


def figure(value):
    return {"value": value, "source": "a test"}


def machine(**changed):
    return Machine.model_validate(
        {
            "machine": "toy",
            "title": "A toy",
            "devices_per_node": 2,
            "dense_flops": figure(1000.0),
            "expert_flops": figure(100.0),
            "link_inside": figure(64.0),
            "link_between": figure(16.0),
            "layer_seconds": figure(5.0),
            "exchange_seconds": figure(0.25),
            "layer": {"width": 4, "sequence_length": 10, "tokens_per_device": 3, "bytes_per_value": 2},
        }
        | changed
    )


# A layer's attention: 3 tokens × (24·16 + 12·4·10) FLOPs / 1000 = 2.592 s, and 5 s whatever the load.
FIXED = 2 * (5 + 2.592)
# An assignment, k = 2: 48·16/2 = 384 FLOPs / 100 = 3.84 s.
ROW = 3 * 3.84


def test_rows_by_hand():
    # Layer 0: devices carry 6 + 2 = 8 and 1 + 3 = 4, layer 1 6 and 6. Of the 6 tokens each device brings 3:
    # 8/3 + 6/3 assignments on the slowest one for each of them.
    assert device_load(LOAD, 2).tolist() == [[[8, 4], [6, 6]]]
    assert device_rows(LOAD, 6, 2) == pytest.approx([8 / 3 + 6 / 3])
    assert device_rows(LOAD, 6, 1) == pytest.approx([4.0])  # two layers, two experts each
    assert device_rows(LOAD, 6, 4) == pytest.approx([(6 + 3) * 4 / 6])


def test_more_devices_than_experts_share_an_expert():
    assert device_rows(LOAD, 6, 8) == pytest.approx([(6 / 2 + 3 / 2) * 8 / 6])


def test_the_slowest_device_is_taken_per_layer_not_over_all():
    # Each layer overloads another device: the maximum of sums would be 4, the sum of maxima is 8.
    assert device_rows(np.array([[[4, 0], [0, 4]]]), 4, 2) == pytest.approx([(4 + 4) * 2 / 4])


def test_a_balanced_load_is_layers_times_k_on_any_number_of_devices():
    even = np.full((3, 2, 8), 5)  # 20 tokens choose two experts
    assert mean_device_rows(even, 20) == pytest.approx(dict.fromkeys(map(str, DEVICES), 4.0))


def test_counts_that_do_not_share_the_experts_are_null():
    assert mean_device_rows(np.ones((1, 1, 6)), 3) == {"1": 2.0, "8": None, "64": None}
    with pytest.raises(ValueError, match="3 do not share 4 experts"):
        device_load(LOAD, 3)


def test_one_device_exchanges_nothing():
    assert machine().step_seconds(4.0, 1, 2, 2) == pytest.approx(FIXED + 4 * ROW)


def test_within_a_node_by_hand():
    # 4 exchanges · 4.5 rows · 3 tokens · 4 wide · 2 bytes = 432 bytes, half of them to the other device, 64 a second;
    # 4 exchanges in each of two layers wait 0.25 s.
    assert machine().step_seconds(4.5, 2, 2, 2) == pytest.approx(FIXED + 4.5 * ROW + 216 / 64 + 2.0)


def test_between_nodes_the_slower_way_decides():
    # Eight devices: 1/8 of the bytes stays in the node, 6/8 leave it at 16 bytes a second.
    sent = 4 * 4.0 * 3 * 4 * 2
    assert machine().step_seconds(4.0, 8, 2, 2) == pytest.approx(FIXED + 4 * ROW + sent * 6 / 8 / 16 + 2.0)
    slow_inside = machine(link_inside=figure(1.0))
    assert slow_inside.step_seconds(4.0, 8, 2, 2) == pytest.approx(FIXED + 4 * ROW + sent / 8 / 1.0 + 2.0)


def test_a_dense_network_is_one_product_and_exchanges_nothing():
    assert machine().step_seconds(4.0, 64, 2, 2, routed=False) == pytest.approx(FIXED + 4 * ROW / 10)


def test_sweep_against_the_pieces():
    table = sweep(LOAD, [1, 2, 3, 4], machine(), 6, 2)
    assert [row["devices"] for row in table] == [1, 2, 4]
    assert table[1]["device_max_vio"] == pytest.approx(14 / 3 / 4 - 1)
    assert table[1]["seconds"] == pytest.approx(machine().step_seconds(14 / 3, 2, 2, 2))
    assert table[1]["slowdown"] == pytest.approx(table[1]["seconds"] / machine().step_seconds(4.0, 2, 2, 2))


@pytest.mark.parametrize("name", names())
def test_shipped_machines_say_where_every_figure_is_from(name):
    shipped = load(name)
    assert shipped.machine == name
    seconds = [shipped.step_seconds(4.0, count, 2, 2) for count in DEVICES]
    assert 1e-3 < seconds[0] < seconds[1] < seconds[2] < 1.0
    collapsed = shipped.step_seconds(40.0, 64, 2, 2)
    assert collapsed > 5 * seconds[2]


def test_the_default_machine_is_as_fast_as_layers_were_measured_to_be():
    measured = json.loads((GPU / "layer.json").read_text(encoding="utf-8"))
    peak = measured["machine"]["peaks"]["bfloat16"]
    reached = {row["name"]: row["share_of_peak"] * peak for row in measured["rows"] if row["experts"] == 64}
    assert load().dense_flops.value == pytest.approx(reached["dense twin"], rel=2e-3)
    assert load().expert_flops.value == pytest.approx(reached["grouped"], rel=2e-3)


def test_the_dense_twin_is_ahead_by_what_whole_steps_show():
    rows = json.loads((GPU / "step.json").read_text(encoding="utf-8"))["rows"]
    steps = {row["strategy"]: row["ms"] for row in rows if "1024" in row["rung"] and row["backend"] == "grouped"}
    routed, dense = (load().step_seconds(16.0, 1, 2, 8, routed=routed) for routed in (True, False))
    assert dense / routed == pytest.approx(steps["dense"] / steps["none"], abs=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("machine: [", "not YAML"),
        ("just words", "expected a mapping"),
        ("machine: x\ntitel: y\n", "titel: unknown key; did you mean 'title'"),
        ("machine: x\ntitle: y\ndevices_per_node: 0\n", "devices_per_node: 0: "),
    ],
)
def test_a_broken_machine_is_named(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load(str(path))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_an_unknown_machine_is_named():
    with pytest.raises(ValueError, match="'h10' is unknown; did you mean 'h100'"):
        load("h10")
    with pytest.raises(ValueError, match=r"no file 'mine\.yaml'"):
        load("mine.yaml")


def test_thousands_of_devices_are_quick(benchmark):
    loads = np.random.default_rng(0).integers(1, 100, (200, 4, 256))
    assert len(benchmark(sweep, loads, [2**k for k in range(13)], load(), 1000, 4)) == 13
