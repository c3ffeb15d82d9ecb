"""One trial over several processes gives the curve of one process: data parallel over gloo."""

from __future__ import annotations

import copy
import os
import shutil
import socket
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from suite.planning import config, plan
from suite.running.attempt import run_trial
from suite.storage.files import read_json
from suite.storage.trial import TrialFolder

RANK = """
import sys
from pathlib import Path
from suite.running.attempt import run_trial
run_trial(Path(sys.argv[1]), Path(sys.argv[2]))
"""


GLOBAL = {"scope": "global_batch"}
SETTINGS = {"aux_loss": GLOBAL, "expert_reset": GLOBAL | {"every": 0.5, "below": 0.9}}  # where one expert is below


def launch(folder, cache, size):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    shared = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    ranks = [
        subprocess.Popen([sys.executable, "-P", "-c", RANK, str(folder), str(cache)], env=shared | {"RANK": str(rank)})
        for rank in range(size)
    ]
    assert [rank.wait(timeout=240) for rank in ranks] == [0] * size


@pytest.mark.parametrize(
    ("strategy", "size"),
    [
        ("smebu", 2),
        ("expert_reset", 2),
        *(pytest.param(name, 4, marks=pytest.mark.slow) for name in ("smebu", "aux_loss", "quantile", "hash")),
    ],
)
def test_several_processes_give_the_curve_of_one(strategy, size, tiny_suite, home, tmp_path):
    arm = {"strategy": strategy, "set": SETTINGS.get(strategy, {})}
    data = copy.deepcopy(tiny_suite) | {"strategies": [arm], "baseline": strategy, "seeds": 1}
    made = plan.make_plan(config.parse(data, "test"))
    folder = made.write_trial(home, made.trials[0])
    other = TrialFolder(tmp_path / folder.key)
    shutil.copytree(folder.path, other.path)
    run_trial(folder.path, home / "cache")
    launch(other.path, home / "cache", size)
    one, several = (pq.read_table(f.path / "curves.parquet").to_pandas() for f in (folder, other))
    for name in one.columns:
        if name == "train_loss" or name.startswith("loss_"):
            np.testing.assert_allclose(several[name], one[name], atol=2e-4, err_msg=name)
    if strategy == "expert_reset":
        assert one["experts_reset"].sum() == several["experts_reset"].sum() == 1
    loads = [np.load(f.path / "load.npz")["load"].astype(int) for f in (folder, other)]
    assert (loads[0].sum(-1) == loads[1].sum(-1)).all()  # the whole global batch is counted, whoever routed it
    assert np.abs(loads[0] - loads[1]).sum() <= 0.02 * loads[0].sum()  # near-ties may fall the other way
    assert read_json(other.record)["measures"]["val_loss"] == pytest.approx(
        read_json(folder.record)["measures"]["val_loss"], abs=2e-4
    )


def test_a_sum_over_ranks_is_a_tensor_of_its_own_without_gradient():
    from suite.training.distributed import World

    value = torch.ones(3, requires_grad=True) * 2
    total = World().sum(value)
    assert not total.requires_grad
    total.zero_()
    assert value.tolist() == [2.0] * 3


def test_a_micro_batch_that_ranks_cannot_share_is_refused(tiny_suite, home):
    from suite.training.distributed import World
    from suite.training.trainer import Training

    data = tiny_suite | {"strategies": ["none"], "baseline": "none", "seeds": 1}
    made = plan.make_plan(config.parse(data, "test"))
    with pytest.raises(ValueError, match="expected a divisor of 4"):
        Training(made.write_trial(home, made.trials[0]), home / "cache", World(0, 3), lambda _: None)
