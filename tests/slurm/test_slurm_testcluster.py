"""The test cluster keeps to itself."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm import queue
from slurm.commands import ClusterError
from slurm.testcluster import TestCluster, UnavailableError

pytestmark = pytest.mark.slurm

SCRIPTS = Path(sys.modules["slurm.testcluster"].__file__).parent
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the test cluster must be started as root")


def refused(*options, **environ):
    done = subprocess.run(
        ["bash", str(SCRIPTS / "start.sh"), *options], capture_output=True, text=True, env=os.environ | environ
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    return done.stderr.strip()


@needs_root
def test_it_refuses_a_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "precious").touch()
    assert refused("--root", str(tmp_path)) == f"test cluster: {tmp_path} exists and is no test cluster"
    stopped = subprocess.run(
        ["bash", str(SCRIPTS / "stop.sh"), "--purge", "--root", str(tmp_path)], capture_output=True
    )
    assert stopped.returncode == 2
    assert (tmp_path / "precious").exists()


@needs_root
def test_it_refuses_beside_another_slurm(tmp_path):
    conf = tmp_path / "slurm.conf"
    conf.write_text("ClusterName=real\n")
    root = str(tmp_path / "root")
    assert refused("--root", root, SLURM_CONF=str(conf)).endswith(f"SLURM_CONF={conf}: this shell uses another SLURM")
    shutil.copy(shutil.which("sleep"), tmp_path / "slurmctld")
    real = subprocess.Popen([str(tmp_path / "slurmctld"), "60"])
    try:
        assert f"process {real.pid} is a slurmctld that is not a test cluster's" in refused("--root", root)
    finally:
        real.kill()
        real.wait()


@needs_root
@pytest.mark.parametrize("offset", [0, 3])
def test_it_refuses_ports_in_use(tmp_path, offset):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused("--root", str(tmp_path / "root"), "--port", str(port - offset))
    assert said == f"test cluster: port {port} is in use; choose others with --port"


@needs_root
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--root", "/tmp/a b"), "only letters, digits"),
        (("--nodes", "many"), "'many' is no whole number"),
        (("--nodes", "0"), "at least one node"),
        (("--nod", "4"), "--nod is no option"),
    ],
)
def test_wrong_options(options, words):
    assert words in refused(*options)


def test_it_refuses_anybody_but_root(tmp_path):
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    scripts = Path(shutil.copytree(SCRIPTS, tmp_path / "scripts")) if nobody else SCRIPTS
    for folder in (tmp_path, *tmp_path.parents):
        if nobody and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    done = subprocess.run([*nobody, "bash", str(scripts / "start.sh")], capture_output=True, text=True)
    assert done.returncode == 2
    assert "must be started as root" in done.stderr


def test_a_second_cluster_lives_beside_the_first_and_dies_with_its_owner(cluster, tmp_path):
    owner = subprocess.Popen(["sleep", "600"])
    root = Path("/var/tmp") / f"equipoise-testcluster-{os.getpid()}-second"
    second = TestCluster(nodes=1, gpus=0, root=root)
    try:
        second.start()
        (root / "run" / "watch.pid").read_text()
        subprocess.run(["bash", str(SCRIPTS / "stop.sh"), "--root", str(root)], check=True, capture_output=True)
        assert not list((root / "run").glob("*.pid"))
        ours = subprocess.run(["sinfo", "-h", "-o", "%D"], capture_output=True, text=True, check=True)  # the first's
        assert ours.stdout.split() == ["4"]
        options = [
            "--root",
            str(root),
            "--nodes",
            "1",
            "--gpus",
            "0",
            "--port",
            str(second.port),
            "--while",
            str(owner.pid),
        ]
        subprocess.run(["bash", str(SCRIPTS / "start.sh"), *options], check=True, capture_output=True)
        pid = second.pid("slurmctld")
        owner.kill()
        owner.wait()
        deadline = time.monotonic() + 20
        while root.exists():
            assert time.monotonic() < deadline, "the cluster outlived its owner"
            time.sleep(0.2)
        daemon = Path(f"/proc/{pid}/status")
        assert not daemon.exists() or "State:\tZ" in daemon.read_text()
    finally:
        owner.kill()
        subprocess.run(["bash", str(SCRIPTS / "stop.sh"), "--purge", "--root", str(root)], capture_output=True)


def test_starting_again_revives_what_was_killed(cluster):
    victim = cluster.pid("slurmd.n3")
    os.kill(victim, signal.SIGKILL)
    cluster.start()
    assert cluster.pid("slurmd.n3") != victim
    listed = subprocess.run(
        ["srun", "-w", "n3", "printenv", "SLURMD_NODENAME"], capture_output=True, text=True, timeout=30
    )
    assert listed.stdout.strip() == "n3"


def test_what_cannot_start_is_said_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match=r"^test cluster: .* exists and is no test cluster$|as root"):
        TestCluster(root=tmp_path, port=29999).start()


@pytest.mark.slow
@needs_root
def test_accounting(campaign, monkeypatch):
    """sacct answers for what squeue has forgotten; a wrong account is refused in the cluster's words."""
    try:
        running = TestCluster(nodes=1, accounting=True).__enter__()
    except UnavailableError as error:
        pytest.skip(str(error))
    try:
        campaign.payload["mischief"] = {"b": "fail"}
        campaign.overrides = {"account": "research"}
        jobs = campaign.jobs("a", "b")
        campaign.submit(jobs)
        seen = campaign.until(jobs, "done", "failed")
        ids = [one.job_id for one in seen.values()]
        with monkeypatch.context() as patch:
            patch.setattr(queue, "_from_squeue", lambda ids: {})
            deadline = time.monotonic() + 15  # sacct lags
            while {s.state for s in queue.states(ids).values()} != {"COMPLETED", "FAILED"}:
                assert time.monotonic() < deadline, queue.states(ids)
                time.sleep(0.5)
        campaign.overrides = {"account": "nosuch"}
        with pytest.raises(ClusterError, match=r"Invalid account or account/partition .*asked for .*account nosuch"):
            campaign.submit(campaign.jobs("c"))
    finally:
        running.__exit__(None, None, None)
