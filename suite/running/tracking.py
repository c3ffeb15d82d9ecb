"""MLflow as a mirror of trial folders: complete, replayable, and never in training's way.

Trials write their folders and nothing else. A mirror reads them, whenever it runs: in a thread beside `equipoise run`,
or in `equipoise sync` afterwards. A server that is down, slow or refusing costs the mirror, never a trial. Sending the
same points twice stores them once, because their timestamps come from the trial, not from the clock.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from suite.storage.files import alone, read_json, write_json
from suite.storage.trial import TrialFolder

POINTS = 200  # a curve's points in MLflow; the folder has them all
SYNC_SECONDS = 5.0
DAMAGED = (ValueError, LookupError, FileNotFoundError)  # of one trial's folder, which holds up nobody else's
CURVES = (
    "train_loss",
    "val_loss",
    "lr",
    "grad_norm",
    "max_vio",
    "max_vio_worst",
    "load_entropy",
    "bias_abs_max",
    "bias_step",
)
_SHARED = re.compile(r"nfs4?|cifs|smb3|lustre|gpfs|beegfs|ceph|9p|afs|panfs|wekafs|orangefs|fuse\.(?!fuse-overlayfs).*")
_STATUS = {
    "finished": "FINISHED",
    "diverged": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "killed": "KILLED",
}


def configure_client() -> None:
    """Settings MLflow reads at import: give up on a dead server in seconds, report nothing home, print nothing."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout belongs to `--json`
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")


def default_uri(home: Path) -> str:
    """`MLFLOW_TRACKING_URI`, or SQLite under the home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"


def experiment_name() -> str:
    """`MLFLOW_EXPERIMENT_NAME`, or `equipoise`: on a shared server every user may own an experiment."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "equipoise"


def without_credentials(uri: str) -> str:
    """The URI of a server, its user and password moved to the environment: MLflow's errors quote the URI in full."""
    found = re.fullmatch(r"(https?://)([^/]*)@([^@]*)", uri)
    if found is None:
        return uri
    scheme, credentials, address = found.groups()
    user, _, password = credentials.partition(":")
    os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(user), unquote(password)
    return scheme + address


def on_a_network(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Whether a path lies on a file system that several machines share; False where there is no table of mounts."""
    try:
        table = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return False
    place = path.resolve()
    kinds = {
        Path(point.encode().decode("unicode_escape")): kind for _, point, kind, *_ in table
    }  # later ones lie on top
    nearest = next((parent for parent in (place, *place.parents) if parent in kinds), None)
    return nearest is not None and _SHARED.fullmatch(kinds[nearest]) is not None


def thinned(rows: list[dict[str, Any]], steps: int) -> list[dict[str, Any]]:
    """About `POINTS` rows, the same whenever asked; every row with a held-out loss, and the last, are among them."""
    every = max(1, -(-steps // POINTS))
    return [
        row for row in rows if row["step"] % every == 0 or row["step"] == steps - 1 or row.get("val_loss") is not None
    ]


def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested numbers under names MLflow accepts, such as `overflow/1.25`; lists and nulls are left to the artifact."""
    flat: dict[str, float] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat |= flatten(item, f"{prefix}{key}/")
        elif isinstance(item, int | float) and not isinstance(item, bool):
            flat[prefix + key] = float(item)
    return flat


class Mirror:
    """Brings MLflow up to date with trial folders.

    Args:
        home: where `trials/` and the default store are.
        uri: tracking server or database; None for `default_uri`.
    """

    def __init__(self, home: Path, uri: str | None = None) -> None:
        configure_client()
        self.home, self.uri = home, without_credentials(uri or default_uri(home))
        self._client: Any = None
        self._parents: dict[str, str] = {}

    def connect(self) -> Any:
        """The client; the first one initialises the database alone, because eight at once break it."""
        if self._client is None:
            from mlflow import MlflowClient

            with alone(self.home / ".mlflow.lock"):
                file = Path(self.uri.removeprefix("sqlite:///"))
                fresh = self.uri.startswith("sqlite:///") and not file.exists()
                client = MlflowClient(tracking_uri=self.uri)
                client.search_experiments(max_results=1)
                if fresh and not on_a_network(file):  # WAL keeps part of the database in one machine's memory
                    with sqlite3.connect(file) as connection:
                        connection.execute("PRAGMA journal_mode=WAL")
            self._client = client
        return self._client

    def _experiment(self) -> str:
        client, name = self.connect(), experiment_name()
        found = client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        with alone(self.home / ".mlflow.lock"):
            found = client.get_experiment_by_name(name)
            if found is not None:
                return found.experiment_id
            local = self.uri.startswith("sqlite:")
            place = (self.home / "mlartifacts").as_uri() if local else None
            return client.create_experiment(name, artifact_location=place)

    def _find_or_create(self, tag: str, value: str, name: str, parent: str | None, start_ms: int) -> tuple[str, int]:
        """The run with `tag` = `value` and its start: looked up first, so that a resumed trial continues its own run.

        Points count time from the run's start, not the folder's: a trial trained again in a new folder repeats its
        points and adds none.
        """
        client, experiment = self.connect(), self._experiment()
        with alone(self.home / ".mlflow.lock"):
            found = client.search_runs([experiment], filter_string=f"tags.`{tag}` = '{value}'", max_results=1)
            if found:
                return found[0].info.run_id, found[0].info.start_time
            tags = {tag: value, "mlflow.runName": name} | ({"mlflow.parentRunId": parent} if parent else {})
            made = client.create_run(experiment, start_time=start_ms, tags=tags, run_name=name)
            return made.info.run_id, start_ms

    def suite_run(self, suite: str) -> str:
        """The parent run of a suite."""
        if suite not in self._parents:
            now_ms = int(time.time() * 1000)
            self._parents[suite], _ = self._find_or_create("equipoise.suite", suite, suite, None, now_ms)
        return self._parents[suite]

    def sync_trial(self, folder: TrialFolder, suite: str, name: str) -> bool:
        """Send what MLflow does not have of this trial. True if it now has the finished record.

        Raises what `DAMAGED` lists, or whatever the client raises; the caller decides to try again later.
        """
        cursor_path = folder.path / "mlflow.json"
        cursor = read_json(cursor_path) if cursor_path.exists() else {}
        store = {"uri": redacted(self.uri), "experiment": experiment_name()}
        if {name: cursor.get(name) for name in store} != store:
            cursor = store | {"next_step": 0, "state": None}
        if cursor["state"] == "recorded":
            return True
        if not folder.trial.exists():
            return False
        rows, steps, started, state = self._read(folder)
        if started is None:
            return False
        from mlflow.entities import Metric, Param, RunTag

        client = self.connect()
        if "start_ms" not in cursor:
            began_ms = int(datetime.fromisoformat(started).timestamp() * 1000)
            cursor["run_id"], cursor["start_ms"] = self._find_or_create(
                "trial_key", folder.key, name, self.suite_run(suite), began_ms
            )
            definition = read_json(folder.trial)
            params = {key: str(value)[:500] for key, value in parameters(definition).items()}
            facts = definition.get("provenance", {})
            tags = {
                "strategy": params["strategy"],
                "task": params["task"],
                "git_revision": str(facts.get("git_revision")),
            }
            client.log_batch(
                cursor["run_id"],
                params=[Param(key, value) for key, value in params.items()],
                tags=[RunTag(key, value) for key, value in tags.items()],
            )
        run, start_ms = cursor["run_id"], cursor["start_ms"]
        new = [row for row in thinned(rows, steps) if row["step"] >= cursor["next_step"]]
        points = [
            Metric(key, float(row[key]), start_ms + row["step"], row["step"])
            for row in new
            for key in row
            if (key in CURVES or key.startswith("loss_")) and row[key] is not None
        ]
        for start in range(0, len(points), 900):
            client.log_batch(run, metrics=points[start : start + 900])
        if rows:
            cursor["next_step"] = max(cursor["next_step"], rows[-1]["step"] + 1)
        if state in ("finished", "diverged"):
            self._finish(folder, run, start_ms, steps)
            cursor["state"] = "recorded"
        elif state != cursor["state"]:
            client.update_run(run, status=_STATUS.get(state, "RUNNING"))
            cursor["state"] = state
        write_json(cursor_path, cursor)
        return cursor["state"] == "recorded"

    def log_board(self, board: dict[str, Any], folder: Path) -> None:
        """Put a leaderboard into its suite's parent run: figures as metrics, every form of it as artifacts."""
        from mlflow.entities import Metric

        client, run, now_ms = self.connect(), self.suite_run(board["suite"]), int(time.time() * 1000)
        values = [Metric(key, value, now_ms, 0) for key, value in board_metrics(board).items()]
        for start in range(0, len(values), 900):
            client.log_batch(run, metrics=values[start : start + 900])
        client.log_artifacts(run, str(folder), "board")
        client.set_terminated(run, "FINISHED")

    def _read(self, folder: TrialFolder) -> tuple[list[dict[str, Any]], int, str | None, str]:
        """Curve rows, number of steps, when the first attempt started, and how the trial stands."""
        if folder.done:
            import pyarrow.parquet as pq

            done = read_json(folder.record)
            rows = pq.read_table(folder.path / "curves.parquet").to_pylist()
            return rows, done["config"]["task"]["rung"]["steps"], done["attempts"][0]["started"], done["status"]
        history = folder.history()
        if not history or "provenance" not in read_json(folder.trial):
            return [], 0, None, "new"
        from suite.storage.journal import Journal

        rows = Journal(folder.path, 1, 1, bias=False).curves()
        steps = read_json(folder.trial)["config"]["task"]["rung"]["steps"]
        ended = history[-1]["ended_by"]
        running = ended == "killed" and not folder.failure.exists()
        return rows, steps, history[0]["started"], "running" if running else ended

    def _finish(self, folder: TrialFolder, run: str, start_ms: int, steps: int) -> None:
        from mlflow.entities import Metric

        client, done = self.connect(), read_json(folder.record)
        values = flatten(done["measures"], "final/") | flatten(done["timing"], "time/")
        client.log_batch(run, metrics=[Metric(key, value, start_ms + steps, steps) for key, value in values.items()])
        for name in ("trial.json", "record.json", "curves.parquet", "load.npz"):
            client.log_artifact(run, str(folder.path / name))
        end = datetime.fromisoformat(done["attempts"][-1]["ended"])
        client.set_tag(run, "outcome", done["status"])
        client.set_terminated(run, _STATUS[done["status"]], end_time=int(end.timestamp() * 1000))


def board_metrics(board: dict[str, Any]) -> dict[str, float]:
    """A leaderboard's figures under names such as `mix-nano/smebu/delta_loss/mean`."""
    wanted = (
        "val_loss",
        "delta_loss",
        "max_vio_global",
        "max_vio_batch",
        "dead_experts",
        "overflow",
        "overhead",
        "rank",
    )
    flat: dict[str, float] = {}
    for row in board["rows"]:
        chosen = {key: row[key] for key in wanted if key in row}
        flat |= flatten(chosen, f"{row['task']}/{row['arm']}/")
    return {re.sub(r"[^\w\-. :/]", "_", key): value for key, value in flat.items()}


def parameters(definition: dict[str, Any]) -> dict[str, Any]:
    """What MLflow lists as parameters of a trial."""
    config = definition["config"]
    rung = {f"rung.{key}": value for key, value in config["task"]["rung"].items()}
    own = {f"strategy.{key}": value for key, value in config["strategy"]["config"].items()}
    terms = {f"terms.{key}": value for key, value in config["strategy"]["terms"].items()}
    plain = {key: config[key] for key in ("seed", "backend", "precision", "device", "threads")}
    return {"strategy": config["strategy"]["name"], "task": config["task"]["name"], **plain, **own, **terms, **rung}


def redacted(uri: str) -> str:
    """The URI without credentials, as it may stand in files and messages."""
    head, separator, tail = uri.partition("://")
    return head + separator + tail.rpartition("@")[2] if separator else uri


class BackgroundMirror:
    """A mirror in a daemon thread. Training neither waits for it nor hears of its troubles."""

    def __init__(self, home: Path, uri: str | None, jobs: dict[str, tuple[str, str]]) -> None:
        self.jobs = jobs  # key → (suite, run name)
        self.error: str | None = None
        self._mirror = Mirror(home, uri)
        self._stop = threading.Event()
        self._left = dict(jobs)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while True:
            last = self._stop.is_set()  # one whole pass after being asked to stop
            self.error = None
            for key, (suite, name) in list(self._left.items()):
                try:
                    if self._mirror.sync_trial(TrialFolder(self._mirror.home / "trials" / key), suite, name):
                        del self._left[key]
                except Exception as error:
                    self.error = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                    if not isinstance(error, DAMAGED):
                        break
            if last or not self._left:
                return
            self._stop.wait(SYNC_SECONDS)

    def close(self, patience: float) -> int:
        """Give the mirror `patience` seconds to catch up. Returns how many trials it has not recorded."""
        self._stop.set()
        self._thread.join(patience)
        return len(self._left)
