"""Profiles: what they mean, and what is said of wrong ones."""

import pytest
import yaml

from slurm import batch, profiles
from slurm.profiles.schema import Profile, Resources, minutes


def load(tmp_path, text, **overrides):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return profiles.load(path, overrides)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("parition: x", "profile mine: parition is no key of a profile; did you mean 'partition'?"),
        ("time: 12:30:00", "12:30:00 must be quoted; without quotes YAML reads it as a number in base 60"),
        ("time: 1:30.5", "1:30.5 must be quoted"),
        ("time: '12:30'", "time: '12:30' could be hours or minutes; write '12:30:00' for hours"),
        ("time: 0", "time: 0 is impossible; expected at least one minute"),
        ("time: '00:00:00'", "time: '00:00:00' is impossible"),
        ("time: soon", "time: 'soon' is no time limit; expected minutes or a quoted 'HH:MM:SS'"),
        ("time: 1.5", "time: 1.5 is no time limit"),
        ("time: true", "time: True is no time limit"),
        ("time: 1", "signal_delay: 90 s, and up to 60 s that SLURM may be early, leave nothing of the time limit of 1"),
        ("{time: 2, signal_delay: 60}", "leave nothing of the time limit of 2 min"),
        ("env: {A: true}", "env.A: true could be several texts; put it in quotes"),
        ("extra: {gpus: 1}", "extra.gpus: cannot be set here; use the profile's key gpus_per_node"),
        ("extra: {gpus-per-task: 1}", "extra.gpus-per-task: cannot be set here; use the profile's key gpus_per_node"),
        ("{gpus_per_node: 1, extra: {gres: 'gpu:1'}}", "gpus_per_node: 1, and extra.gres asks for GPUs as well"),
        ("", "is empty; expected keys and values"),
        ("# partition: x", "is empty; expected keys and values"),
        ("memory: 3 GB", "memory: '3 GB' is wrong; expected a size per node such as '32GB'"),
        ("memory: 300", "memory: '300' is wrong"),
        ("gpus_per_node: many", "gpus_per_node: 'many' is wrong; expected a number, or 'a100:2'"),
        ('partition: "a\\nb"', "partition: 'a\\nb' is not one non-empty line of printable text"),
        ('partition: "\\e[31m"', "is not one non-empty line"),
        ("partition: ''", "partition: '' is not one non-empty line"),
        ('setup: ["one\\ntwo"]', "setup.0: 'one\\ntwo' is not one non-empty line"),
        ("nodes: 0", "nodes: 0 is wrong"),
        ("nodes: '2'", "nodes: '2' is wrong"),
        ("{packing: 2, nodes: 2}", "packing: 2 trials can't share a job of 2 tasks; expected 1"),
        ("env: {A B: 1}", "env: 'A B' is no name of an environment variable"),
        ("env: {HF_TOKEN: [hunter2]}", "env.HF_TOKEN: its value is wrong"),
        ("extra: {partition: x}", "extra.partition: cannot be set here; use the profile's key partition"),
        (
            "extra: {ntasks_per_node: 2}",
            "extra.ntasks_per_node: cannot be set here; use the profile's key tasks_per_node",
        ),
        ("extra: {wrap: x}", "extra.wrap: cannot be set here"),
        ("extra: {export: NONE}", "extra.export: cannot be set here; jobs get the environment"),
        ("extra: {Foo=1: x}", "extra: 'Foo=1' is no long option of sbatch"),
        ("extra: {hold: false}", "extra.hold: false means nothing to sbatch"),
        ("setup: export HF_TOKEN=hunter2", "setup: would write HF_TOKEN into a batch script; put it under env"),
        ("setup: curl https://me:hunter2@host/x", "setup: would write a URL's credentials into a batch script"),
        ("per_task: {x: {nods: 2}}", "per_task.x: nods is no key of a profile; did you mean 'nodes'?"),
        ("per_task: {x: {per_task: {}}}", "per_task.x: per_task is no key of a profile"),
        ("{packing: 4, per_task: {x: {nodes: 2}}}", "per_task.x: packing: 4 trials can't share a job of 2 tasks"),
        ("container: 'a \"b'", "container: 'a \"b': No closing quotation"),
        ("a: 1\na: 2", "a is given twice"),
        ("- a", "holds a list; expected keys and values"),
        ("a: [", "is not YAML"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path, text, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is what is tested)
        load(tmp_path, text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(90, 90), ("90", 90), ("12:30:00", 750), ("0:00:01", 1), ("1-2", 1560), ("1-02:03", 1563), ("2-00:00:30", 2881)],
)
def test_time_limits_in_minutes_rounded_up(given, expected):
    assert minutes(given) == expected


def test_unknown_names_are_answered_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="'tescluster' is unknown; did you mean 'testcluster'"):
        profiles.load("tescluster")
    with pytest.raises(ValueError, match="known: example-cpu, example-gpu, testcluster"):
        profiles.load("zzz")
    with pytest.raises(ValueError, match="cannot be read"):
        profiles.load(tmp_path / "none.yaml")


def test_overrides_are_merged_and_checked(tmp_path):
    text = "{partition: a, env: {A: 1, B: 2}}"
    merged = load(tmp_path, text, partition="b", env={"B": 3, "C": 4})
    assert merged.partition == "b"
    assert merged.env == {"A": "1", "B": "3", "C": "4"}
    with pytest.raises(ValueError, match="did you mean 'partition'"):
        load(tmp_path, text, partitions="b")


def test_tasks_and_strategies_change_resources_strategies_last(tmp_path):
    profile = load(
        tmp_path,
        """
        {memory: 1GB, nodes: 1, env: {A: x},
         per_task: {"*-large": {memory: 2GB, nodes: 4, env: {B: y}}, mix-large: {nodes: 8}},
         per_strategy: {base: {memory: 3GB}}}
        """,
    )
    assert profile.resources_for("mix-nano", "smebu") == Resources(memory="1GB", env={"A": "x"})
    large = profile.resources_for("mix-large", "base")
    assert (large.memory, large.nodes, large.env) == ("3GB", 8, {"A": "x", "B": "y"})
    assert profile.resources_for("c4-large", "smebu").nodes == 4


@pytest.mark.parametrize(
    ("gres", "count"),
    [("gpu", 1), ("gpu:2", 2), ("gpu:a100:4", 4), ("nvme:1,gpu:h100:3(S:0-1)", 3), ("gpufs:2", 0), ("nvme:8", 0)],
)
def test_gpus_asked_for_as_generic_resources_are_gpus(tmp_path, gres, count):
    profile = load(tmp_path, f"extra: {{gres: '{gres}'}}")
    assert profile.gpus == count
    assert "gpus_per_node" not in batch.parameters(profile, tmp_path, None, "token", [])
    both = load(tmp_path, "{gpus_per_node: 2, extra: {gres: 'nvme:8'}}")
    assert batch.parameters(both, tmp_path, None, "token", [])["gpus_per_node"] == "2"


def test_a_key_left_empty_is_left_out_and_numbers_and_single_lines_do(tmp_path):
    profile = load(tmp_path, "{account: 123, modules: cuda/12.4, setup: , env: , extra: , per_task: , memory: }")
    assert (profile.account, profile.modules, profile.setup, profile.extra) == ("123", ("cuda/12.4",), (), {})


def test_secrets_are_not_shown():
    assert "hunter2" not in repr(Profile(env={"HF_TOKEN": "hunter2"}))


@pytest.mark.parametrize("name", profiles.names())
def test_shipped_profiles_load(name):
    assert profiles.load(name).description


def test_the_gpu_example_explains_every_key():
    path = profiles._SHIPPED / "example-gpu.yaml"
    assert set(yaml.safe_load(path.read_text())) == set(Profile.model_fields) - {"name"}
    defaults = {"nodes": 1, "tasks_per_node": 1, "packing": 1, "time": 60, "signal_delay": 90, "max_requeues": 20}
    for key, default in (defaults | {"restarts": 3, "cpus_per_task": 1, "gpus_per_node": "0"}).items():
        assert Profile.model_fields[key].default == default
        line = next(line for line in path.read_text().splitlines() if line.startswith(f"{key}:"))
        assert f"[{default}]" in line
