"""MLflow with many writers, on the real components: a tracking server, PostgreSQL, passwords, a network that fails.

What is stored is read from the database with SQL and compared with the trials' own Parquet files. Needs PostgreSQL's
programs, `mlflow[auth]` and `psycopg2-binary`; PostgreSQL runs in a folder of its own, on loopback.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy
import yaml

from suite.planning import config, plan
from suite.running.attempt import run_trial
from suite.running.tracking import BackgroundMirror, Mirror, configure_client
from suite.training.trainer import Interrupted

pytestmark = pytest.mark.slow

ADMIN, USER, DATABASE = "admin-pass-4711", "user-pass-0815", "database-pass-1234"  # secrets that must appear nowhere
CURVES = {"train_loss", "val_loss", "lr", "grad_norm", "max_vio", "max_vio_worst", "load_entropy"}
CURVES |= {"bias_abs_max", "bias_step"}
WRITERS = 64


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def until(condition, seconds: float, what: str):
    """The first true answer of `condition`; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.2)
    pytest.fail(f"{what}: not within {seconds} s")


class Postgres:
    """A private PostgreSQL: data and socket in one folder, TCP on loopback with a password."""

    def __init__(self) -> None:
        programs = shutil.which("postgres") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/postgres")), None)
        if programs is None:
            pytest.skip("needs PostgreSQL: apt-get install postgresql")
        self.bin, self.port = Path(programs).resolve().parent, free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="equipoise-pg-"))
        (self.folder / "password").write_text(DATABASE)
        who = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        if who:  # it refuses to run as root
            for path in (self.folder, self.folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        data = [f"--pgdata={self.folder / 'data'}", f"--pwfile={self.folder / 'password'}"]
        quiet = {"stdout": subprocess.DEVNULL, "cwd": self.folder, **who}
        subprocess.run([self.bin / "initdb", *data, "--username=mlflow", "--auth=scram-sha-256"], check=True, **quiet)
        place = ["-D", self.folder / "data", "-k", self.folder, "-h", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen([self.bin / "postgres", *place], stderr=subprocess.DEVNULL, **quiet)

    def prepare(self) -> None:
        """Wait until it answers, and make the two databases."""
        at = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow"]
        environment = {**os.environ, "PGPASSWORD": DATABASE}
        for name in ("mlflow", "mlflow_auth"):
            create = partial(subprocess.run, [self.bin / "createdb", *at, name], env=environment, capture_output=True)
            until(lambda create=create: create().returncode == 0, 60, "PostgreSQL starts")

    def uri(self, name: str, password: str = "") -> str:
        return f"postgresql+psycopg2://mlflow{password and ':' + password}@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)  # a fast shutdown
        self.process.wait(30)
        shutil.rmtree(self.folder)


class Server:
    """`mlflow server` as docs/tracking.md starts it."""

    def __init__(self, postgres: Postgres, folder: Path) -> None:
        self.postgres, self.folder, self.port = postgres, folder, free_port()
        self.uri, self.database = f"http://127.0.0.1:{self.port}", postgres.uri("mlflow", DATABASE)
        settings = {"default_permission": "NO_PERMISSIONS", "database_uri": postgres.uri("mlflow_auth")}
        settings |= {"admin_username": "admin", "auth_cache_ttl_seconds": "60"}
        lines = [f"{key} = {value}" for key, value in settings.items()]
        (folder / "auth.ini").write_text("[mlflow]\n" + "\n".join(lines) + "\n")

    def add_user(self, name: str) -> None:
        body = json.dumps({"username": name, "password": USER}).encode()
        self.request("/api/2.0/mlflow/users/create", "admin", ADMIN, body)

    def start(self) -> None:
        environment = {
            **os.environ,
            "PGPASSWORD": DATABASE,
            "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "auth.ini"),
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "only-for-this-test",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.postgres.uri("mlflow")]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), "--app-name", "basic-auth"]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        until(self.healthy, 120, "the tracking server starts")

    def healthy(self) -> bool:
        try:
            return self.request("/health") == 200
        except OSError:
            return False

    def request(self, path: str, user: str = "", password: str = "", body: bytes | None = None) -> int:
        manager = urllib.request.HTTPPasswordMgrWithPriorAuth()
        manager.add_password(None, self.uri, user, password, is_authenticated=bool(user))
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager))
        return opener.open(urllib.request.Request(self.uri + path, body, {"Content-Type": "application/json"})).status

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # the session this class started: the server and its worker
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    missing = [name for name in ("psycopg2", "flask_wtf") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install 'mlflow[auth]' psycopg2-binary")
    postgres = Postgres()
    try:
        postgres.prepare()
        running = Server(postgres, tmp_path_factory.mktemp("server"))
        try:
            running.start()
            running.add_user("trainer")
            yield running
        finally:
            running.kill()
    finally:
        postgres.close()


@pytest.fixture(autouse=True)
def trainer(monkeypatch, request, tmp_path):
    """Every test has an experiment of its own and the name and password of an ordinary user, in its environment."""
    configure_client()
    environment = {"USERNAME": "trainer", "PASSWORD": USER, "URI": ""}
    for name, value in environment.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.name)


def equipoise(*arguments, uri: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-c", "from suite.cli import main; main()", *map(str, arguments)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, out + err
    return out + err


def rows(database: str, table: str, columns: str) -> list[tuple]:
    """`columns` of a table of run data (alias x) for the trials of this test's experiment, with their keys first."""
    engine = sqlalchemy.create_engine(database, poolclass=sqlalchemy.NullPool)
    query = (
        f"SELECT t.value, {columns} FROM {table} x JOIN tags t ON t.run_uuid = x.run_uuid AND t.key = 'trial_key' "
        "JOIN runs r ON r.run_uuid = x.run_uuid JOIN experiments e ON e.experiment_id = r.experiment_id "
        "WHERE e.name = :name"
    )
    with engine.connect() as connection:
        name = os.environ["MLFLOW_EXPERIMENT_NAME"]
        return [tuple(row) for row in connection.execute(sqlalchemy.text(query), {"name": name})]


def expected_points(folder: Path) -> Counter:
    table = pd.read_parquet(folder / "curves.parquet")
    every = int(np.ceil(len(table) / 200))
    kept = table[(table.step % every == 0) | (table.step == len(table) - 1) | table.val_loss.notna()]
    names = [name for name in table.columns if name in CURVES or name.startswith("loss_")]
    points = kept.melt("step", names).dropna()
    return Counter(zip(points.variable, points.step, points.value.astype(float), strict=True))


def assert_complete(home: Path, database: str, artifacts: Path) -> int:
    """One finished run per trial with every point once, its final measures and its record. Returns the points."""
    trials = {folder.name: folder for folder in (home / "trials").iterdir()}
    found = {key: (run, status) for key, run, status in rows(database, "runs", "x.run_uuid, x.status")}
    assert sorted(key for key, *_ in rows(database, "runs", "x.status")) == sorted(trials)
    stored: dict[str, Counter] = {key: Counter() for key in trials}
    final: dict[str, dict[str, float]] = {key: {} for key in trials}
    for key, name, step, value in rows(database, "metrics", "x.key, x.step, x.value"):
        if name.startswith(("final/", "time/")):
            assert name not in final[key], f"{name} twice"
            final[key][name] = value
        else:
            stored[key][name, step, value] += 1
    for key, folder in trials.items():
        assert stored[key] == expected_points(folder)
        record = json.loads((folder / "record.json").read_text())
        assert final[key]["final/val_loss"] == record["measures"]["val_loss"]
        assert final[key]["final/overflow/1.25"] == record["measures"]["overflow"]["1.25"]
        run, status = found[key]
        assert status == "FINISHED"
        (copy,) = artifacts.glob(f"**/{run}/artifacts/record.json")
        assert copy.read_bytes() == (folder / "record.json").read_bytes()
    params = Counter(key for key, _ in rows(database, "params", "x.key"))
    assert min(params[key] for key in trials) >= 15
    return sum(sum(points.values()) for points in stored.values())


def suite_of(tmp_path: Path, data: dict, **rung) -> Path:
    data["tasks"][0]["set"] |= {f"rung.{key}": value for key, value in rung.items()}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def only_trial(data: dict, home: Path, **rung):
    """The folder of a suite's one trial, written and not yet trained."""
    data |= {"strategies": ["smebu"], "baseline": "smebu", "seeds": 1}
    data["tasks"][0]["set"] |= {f"rung.{key}": value for key, value in rung.items()}
    made = plan.make_plan(config.parse(data, "test"))
    return made.write_trial(home, made.trials[0])


def listening_on(port: int) -> set[str]:
    """Addresses, in the kernel's spelling, on which something listens at this port."""
    lines = [line.split() for file in ("tcp", "tcp6") for line in Path(f"/proc/net/{file}").read_text().splitlines()]
    return {line[1].split(":")[0] for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "0A"}


def test_a_suite_is_mirrored_whole_and_no_secret_is_written_down(server, tmp_path, tiny_suite, home):
    file = suite_of(tmp_path, tiny_suite)
    said = finish(equipoise("run", file, "--home", home, uri=server.uri))
    said += finish(equipoise("sync", "--home", home, uri=server.uri))
    assert "6 trials recorded" in said
    assert "View run" not in said  # MLflow's own lines would spoil `--json`
    points = assert_complete(home, server.database, server.folder / "artifacts")
    print(f"\n6 trials, {points} points: complete")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        server.request("/api/2.0/mlflow/experiments/search?max_results=1")
    server.add_user("visitor")
    mine = f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={os.environ['MLFLOW_EXPERIMENT_NAME']}"
    assert server.request(mine, "trainer", USER) == 200
    with pytest.raises(urllib.error.HTTPError, match="403"):
        server.request(mine, "visitor", USER)
    assert listening_on(server.port) == {"0100007F"}
    # a password inside the address leaves it at once: neither files nor messages may quote it
    wrong = server.uri.replace("://", "://trainer:wrong-pass@")
    process = equipoise("sync", "--home", home, uri=wrong.replace(str(server.port), str(free_port())))
    said += "".join(process.communicate(timeout=120))
    assert process.returncode == 1
    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file()) + said.encode()
    log = (server.folder / "server.log").read_bytes() + (server.folder / "auth.ini").read_bytes()
    for secret in (ADMIN, USER, DATABASE, "wrong-pass"):
        assert secret.encode() not in written + log


def test_a_trial_trained_again_in_a_new_home_adds_no_point(server, tmp_path, tiny_suite, home):
    for number in range(2):
        again = home if number else home.with_name("first")
        (again / "cache").mkdir(parents=True, exist_ok=True)
        trial = only_trial(json.loads(json.dumps(tiny_suite)), again)
        run_trial(trial.path, again / "cache")
        assert Mirror(again, server.uri).sync_trial(trial, "tiny", "smebu/0")
        time.sleep(1.1)  # the second one starts at another second
    names = Counter((name, step) for _, name, step in rows(server.database, "metrics", "x.key, x.step"))
    assert names["train_loss", 3] == 1
    assert max(count for (name, _), count in names.items() if not name.startswith("time/")) == 1


def test_a_server_killed_in_the_middle_costs_no_training_and_sync_completes_it(server, tmp_path, tiny_suite, home):
    tiny_suite |= {"strategies": ["aux_loss", "smebu"], "seeds": 2}
    file = suite_of(tmp_path, tiny_suite, steps=3000, checkpoint_every=500, eval_every=500, probe_every=500)
    process = equipoise("run", file, "--home", home, "--jobs", 2, uri=server.uri)
    until(lambda: rows(server.database, "metrics", "x.step"), 300, "the first points arrive")
    server.kill()
    killed = time.monotonic()
    unfinished = 4 - len(list((home / "trials").glob("*/record.json")))
    before = len(rows(server.database, "metrics", "x.step"))
    assert unfinished > 0
    said = finish(process)
    assert len(list((home / "trials").glob("*/record.json"))) == 4
    assert "`equipoise sync` completes it" in said
    went_on = time.monotonic() - killed
    server.start()
    started = time.monotonic()
    assert "4 trials recorded" in finish(equipoise("sync", "--home", home, uri=server.uri))
    took = time.monotonic() - started
    points = assert_complete(home, server.database, server.folder / "artifacts")
    print(f"\nkilled with {unfinished} trials to go and {before} points stored; training went on for {went_on:.0f} s")
    print(f"after the restart `equipoise sync` brought it to {points} points in {took:.0f} s, none twice")


class SlowWire:
    """A TCP proxy that holds back every answer for `delay` seconds."""

    def __init__(self, port: int, delay: float) -> None:
        self.held, self._target, self._delay = 0.0, port, delay
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._copy, args=(near, far, 0.0), daemon=True).start()
                threading.Thread(target=self._copy, args=(far, near, self._delay), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, delay: float) -> None:
        with contextlib.suppress(OSError), sink:
            while data := source.recv(65536):
                time.sleep(delay)
                self.held += delay
                sink.sendall(data)

    def close(self) -> None:
        self._listener.close()


def test_a_slow_server_does_not_slow_training(server, tmp_path, tiny_suite):
    """As a cluster job does it: training and mirror in one process."""
    wire = SlowWire(server.port, 2.0)
    program = (
        "import json, sys; from pathlib import Path; from suite.running.job import run\n"
        "home, key = Path(sys.argv[1]), sys.argv[2]\n"
        "sys.exit(run(key, home / 'trials' / key, {'home': str(home), 'suite': 'tiny', 'names': {}}))"
    )
    seconds = {}
    for name, uri in (("untracked", ""), ("slow server", wire.uri)):
        home = tmp_path / name.replace(" ", "-")
        (home / "cache").mkdir(parents=True)
        data = json.loads(json.dumps(tiny_suite))
        trial = only_trial(data, home, steps=3000, checkpoint_every=500, eval_every=500, probe_every=500)
        environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", "-c", program, str(home), trial.key]
        process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE)
        assert "Traceback" not in finish_job(process)
        seconds[name] = json.loads(trial.record.read_text())["timing"]["train_seconds"]
    held = wire.held
    wire.close()
    assert held >= 10, "the wire was to hold the mirror up"
    assert seconds["slow server"] < 1.5 * seconds["untracked"] + 3
    assert Mirror(home, server.uri).sync_trial(trial, "tiny", "smebu/0")  # the direct way; what was sent is not added
    points = assert_complete(home, server.database, server.folder / "artifacts")
    print(f"\ntraining: {seconds}; answers held back for {held:.0f} s in all; {points} points, none twice")


def finish_job(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    return out


def write_one_trial(home, uri, key, done, settings, barrier, answers) -> None:
    """One of many processes: mirror a trial while half of it is there, then whole, trying again when refused."""
    os.environ.update(settings)
    mirror, folder, refused = Mirror(home, uri), plan.TrialFolder(home / "trials" / key), 0
    barrier.wait()
    started = time.monotonic()
    for state in (False, True):
        if state:
            for path in sorted(done.iterdir(), key=lambda path: path.name == "record.json"):  # the record last
                shutil.copy(path, folder.path / path.name)
        while True:
            try:
                assert mirror.sync_trial(folder, "writers", key) is state
                break
            except AssertionError:
                raise
            except Exception as error:  # whatever the client raises means the same: not now
                refused += 1
                print(key, type(error).__name__, str(error)[:200], file=sys.stderr)
                time.sleep(1)
    answers.put((time.monotonic() - started, refused))


@pytest.mark.parametrize("store", ["sqlite", "server"])
def test_64_processes_writing_at_once_lose_nothing(store, request, tmp_path, tiny_suite, home):
    running = request.getfixturevalue("server") if store == "server" else None
    uri = running.uri if running else f"sqlite:///{home / 'mlflow.db'}"
    seed_home = tmp_path / "seed"
    (seed_home / "cache").mkdir(parents=True)
    trial = only_trial(tiny_suite, seed_home, steps=100, checkpoint_every=10)
    asked = iter(range(1000))
    with pytest.raises(Interrupted):
        run_trial(trial.path, seed_home / "cache", should_stop=lambda: next(asked) >= 50)
    keys = [f"{number:012x}" for number in range(WRITERS)]
    for key in keys:
        shutil.copytree(trial.path, home / "trials" / key)
    run_trial(trial.path, seed_home / "cache")

    context = multiprocessing.get_context("forkserver")  # mlflow is imported once, and shared by all
    context.set_forkserver_preload(["mlflow", "suite.running.tracking", "suite.planning.plan"])
    barrier, answers = context.Barrier(WRITERS), context.Queue()
    settings = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    arguments = [(home, uri, key, trial.path, settings, barrier, answers) for key in keys]
    processes = [context.Process(target=write_one_trial, args=given) for given in arguments]
    for process in processes:
        process.start()
    said = [answers.get(timeout=900) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    for key in keys:
        assert (home / "trials" / key / "record.json").exists()
    database, artifacts = (running.database, running.folder) if running else (uri, home)
    points = assert_complete(home, database, artifacts)
    slowest = max(seconds for seconds, _ in said)
    print(f"\n{store}: {WRITERS} processes, {points} points in {slowest:.0f} s ({points / slowest:.0f}/s), complete;")
    print(f"{sum(refused for _, refused in said)} refusals, each tried again")


def test_a_locked_database_costs_nothing(home, tiny_suite):
    Mirror(home, f"sqlite:///{home / 'mlflow.db'}").connect()
    trial = only_trial(tiny_suite, home, steps=300)
    database = f"sqlite:///{home / 'mlflow.db'}"
    with contextlib.closing(sqlite3.connect(home / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        locked = time.monotonic()
        mirror = BackgroundMirror(home, database, {trial.key: ("tiny", "smebu/0")})
        run_trial(trial.path, home / "cache")
        trained = time.monotonic() - locked
        assert rows(database, "metrics", "x.step") == []  # nobody could write while it trained
        time.sleep(max(0.0, 8 - trained))
        other.execute("ROLLBACK")
    held = time.monotonic() - locked
    assert mirror.close(patience=90) == 0
    points = assert_complete(home, database, home)
    print(f"\nlocked for {held:.0f} s; trained meanwhile in {trained:.1f} s; {points} points afterwards, none twice")
