"""MLflow as a mirror: complete, idempotent, and never in training's way."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from suite.cli import main
from suite.planning import config, library, plan
from suite.running.attempt import run_trial
from suite.running.tracking import BackgroundMirror, Mirror, board_metrics, flatten, on_a_network, redacted, thinned
from suite.storage.trial import TrialFolder
from suite.training.trainer import Interrupted


@pytest.fixture(autouse=True)
def own_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def trial(tiny_suite, home):
    data = tiny_suite | {"strategies": ["smebu"], "baseline": "smebu", "seeds": 1}
    made = plan.make_plan(config.parse(data, "test"))
    return made.write_trial(home, made.trials[0])


def runs(mirror, **tags):
    client = mirror.connect()
    experiment = client.get_experiment_by_name("equipoise").experiment_id
    query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    return client.search_runs([experiment], filter_string=query)


def test_a_path_on_a_file_system_that_machines_share_is_known(tmp_path):
    (tmp_path / "mounts").write_text(
        "/dev/vda / ext4 rw 0 0\n"
        "server:/h /home nfs4 rw 0 0\n"
        "x /home/me/a\\040b fuse.sshfs rw 0 0\n"
        "tmpfs /home/tmp tmpfs rw 0 0\n"
    )
    places = ("/home/me/mlflow.db", "/home/me/a b/mlflow.db", "/home/tmp/mlflow.db", "/homes/mlflow.db", "/mlflow.db")
    assert [on_a_network(Path(place), tmp_path / "mounts") for place in places] == [True, True, False, False, False]
    assert on_a_network(Path("/x"), tmp_path / "no such table") is False


@pytest.mark.parametrize(("shared", "mode"), [(False, "wal"), (True, "delete")])
def test_a_new_database_is_in_wal_mode_on_a_local_disk_only(home, monkeypatch, shared, mode):
    monkeypatch.setattr("suite.running.tracking.on_a_network", lambda path: shared)
    Mirror(home).connect()
    with sqlite3.connect(home / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == (mode,)


def test_a_killed_trial_continues_its_own_run_and_no_point_comes_twice(trial, home):
    mirror = Mirror(home)
    asked = iter(range(100))
    with pytest.raises(Interrupted):
        run_trial(trial.path, home / "cache", should_stop=lambda: next(asked) >= 4)
    assert mirror.sync_trial(trial, "tiny", "smebu/0") is False
    (run,) = runs(mirror, trial_key=trial.key)
    assert run.info.status == "KILLED"
    first = run.info.run_id
    run_trial(trial.path, home / "cache")
    assert mirror.sync_trial(trial, "tiny", "smebu/0") is True
    (trial.path / "mlflow.json").unlink()  # the cursor is lost: everything is sent again
    assert mirror.sync_trial(trial, "tiny", "smebu/0") is True
    (run,) = runs(mirror, trial_key=trial.key)
    assert run.info.run_id == first
    assert run.info.status == "FINISHED"
    history = mirror.connect().get_metric_history(first, "train_loss")
    assert [point.step for point in history] == list(range(12))
    assert run.data.params["strategy.rate"] == "0.0005"
    assert run.data.metrics["final/val_loss"] > 0
    assert {a.path for a in mirror.connect().list_artifacts(first)} >= {"record.json", "curves.parquet", "load.npz"}
    parent = mirror.connect().get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.data.tags["equipoise.suite"] == "tiny"


def test_a_failed_trial_is_called_failed(trial, home):
    import json

    definition = json.loads(trial.trial.read_text())
    mirror = Mirror(home)
    asked = iter(range(100))
    with pytest.raises(Interrupted):
        run_trial(trial.path, home / "cache", should_stop=lambda: next(asked) >= 4)
    broken = json.loads(trial.trial.read_text())
    broken["config"]["strategy"]["source"] = "0"
    trial.trial.write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="has changed"):
        run_trial(trial.path, home / "cache")
    mirror.sync_trial(trial, "tiny", "x")
    (run,) = runs(mirror, trial_key=trial.key)
    assert run.info.status == "FAILED"
    trial.trial.write_text(json.dumps(definition))


def test_a_server_that_accepts_and_never_answers_costs_the_caller_nothing(trial, home, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        mirror = BackgroundMirror(home, address, {trial.key: ("tiny", "x")})
        run_trial(trial.path, home / "cache")
        trained = time.monotonic() - started
        left = mirror.close(patience=0.5)
    assert left == 1
    assert TrialFolder(trial.path).done
    assert time.monotonic() - started < trained + 2
    assert Mirror(home).sync_trial(trial, "tiny", "x") is True  # another store completes it


def test_a_refusing_server_is_named_without_its_password(trial, home, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    run_trial(trial.path, home / "cache")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    mirror = BackgroundMirror(home, f"http://me:secret@127.0.0.1:{port}", {trial.key: ("tiny", "x")})
    assert mirror.close(patience=60) == 1
    assert mirror.error
    assert "secret" not in mirror.error
    assert redacted(f"http://me:secret@127.0.0.1:{port}") == f"http://127.0.0.1:{port}"
    assert not any("secret" in path.read_text(errors="replace") for path in trial.path.iterdir() if path.is_file())


def test_eight_first_openers_at_once(home):
    errors = []

    def open_store():
        try:
            Mirror(home)._experiment()
        except Exception as error:  # whatever it raises is the finding
            errors.append(error)

    threads = [threading.Thread(target=open_store) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert (home / "mlflow.db").exists()


def test_thinning_keeps_the_ends_and_every_evaluation():
    rows = [{"step": step, "val_loss": 1.0 if step == 777 else None} for step in range(1000)]
    kept = [row["step"] for row in thinned(rows, 1000)]
    assert kept[0] == 0
    assert kept[-1] == 999
    assert 777 in kept
    assert len(kept) <= 202
    assert set(kept) >= {row["step"] for row in thinned(rows[:500], 1000)}


def test_names_that_mlflow_accepts():
    assert flatten({"overflow": {"1.25": 0.5}, "layers": [1], "none": None, "flag": True}) == {"overflow/1.25": 0.5}


def test_telemetry_is_off():
    Mirror.__init__  # noqa: B018
    from suite.running.tracking import configure_client

    configure_client()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_damaged_trial_does_not_hold_up_the_next(trial, home):
    run_trial(trial.path, home / "cache")
    damaged = home / "trials" / ("0" * 16)
    damaged.mkdir()
    (damaged / "trial.json").write_text("{")
    (damaged / "record.json").write_text("{")
    mirror = BackgroundMirror(home, None, {damaged.name: ("tiny", "bad"), trial.key: ("tiny", "good")})
    assert mirror.close(patience=120) == 1
    assert "damaged" in str(mirror.error)
    assert len(runs(Mirror(home), trial_key=trial.key)) == 1


@pytest.fixture
def three(tiny_suite, home):
    """Three finished trials of a suite that MLflow has not heard of, and the suite's file."""
    file = home.parent / "three.yaml"
    file.write_text(yaml.safe_dump(tiny_suite | {"seeds": 3, "strategies": ["aux_loss"]}))
    made = plan.make_plan(library.load(str(file)))
    made.write_manifest(home)
    folders = [made.write_trial(home, trial) for trial in made.trials]
    for folder in folders:
        run_trial(folder.path, home / "cache")
    return file, folders


def sync(home, *names):
    return CliRunner().invoke(main, ["sync", *map(str, names), "--home", str(home)])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("mlflow.json", "{", "mlflow.json: damaged"),
        ("record.json", "{}", "KeyError"),
        ("curves.parquet", None, "FileNotFoundError"),
    ],
)
def test_sync_names_a_damaged_trial_and_sends_those_after_it(three, home, name, text, said):
    _, folders = three
    file = folders[0].path / name
    file.unlink(missing_ok=True) if text is None else file.write_text(text)
    result = sync(home)
    assert result.exit_code == 1
    assert "2 trials recorded, 0 not finished yet, 1 damaged" in result.output
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("equipoise: "))
    assert line.startswith(f"equipoise: trial {folders[0].key} (zipf-nano/aux_loss/0) cannot be sent: ")
    assert said in line
    assert len(runs(Mirror(home), strategy="aux_loss")) == 2


def test_sync_puts_a_suite_s_trials_under_its_one_run_by_whatever_name_it_is_asked_for(three, home):
    file, _ = three
    assert sync(home, file).exit_code == 0
    (parent,) = runs(Mirror(home), **{"equipoise.suite": "tiny"})
    sent = runs(Mirror(home), strategy="aux_loss")
    assert {run.data.tags["mlflow.parentRunId"] for run in sent} == {parent.info.run_id}


def test_arms_of_one_strategy_have_figures_of_their_own():
    rows = [
        {"task": "zipf-nano", "arm": arm, "strategy": "smebu", "val_loss": {"mean": loss}}
        for arm, loss in (("smebu", 2.0), ("smebu-slow", 3.0))
    ]
    assert board_metrics({"rows": rows}) == {
        "zipf-nano/smebu/val_loss/mean": 2.0,
        "zipf-nano/smebu-slow/val_loss/mean": 3.0,
    }
