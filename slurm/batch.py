"""From resources to a batch script: every value quoted, nothing secret, the same for a dry run."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

from slurm.profiles import Resources
from slurm.trust import is_secret

# A task that died of a signal (exit codes 129 to 191) left no result and could not requeue its job: do it here. So does
# a trial of several tasks of which one died, whatever the others made of that (slurm.job leaves the marker). The job is
# named as an element of its array: one element's own id is the id of the whole array. The folder is listed: a node may
# remember that a file was not there. A job that leaves a broken node has the nodes to keep away from in its own marker.
_REVIVE = """\
code=$?
job=${{SLURM_ARRAY_JOB_ID:+${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID}}
job=${{job:-$SLURM_JOB_ID}}
cd {logs} || exit "$code"
died=$job.died.${{SLURM_RESTART_COUNT:-0}}
leaves=$job.leaves.${{SLURM_RESTART_COUNT:-0}}
if ls | grep -xF "$leaves" >/dev/null; then
  trap '' TERM
  for wait in 5 20 60 0; do
    scontrol requeue "$job" && scontrol update "JobId=$job" "ExcNodeList=$(cat "$leaves")" && break
    sleep "$wait"
  done
  exit "$code"
fi
if [ "$code" -gt 128 ] && [ "$code" -lt 192 ] && ! compgen -G "${{job}}_*_result.pkl" >/dev/null; then
  touch "$died"
fi
if ls | grep -xF "$died" >/dev/null && [ "$(cat "$job.revived" 2>/dev/null | wc -l)" -lt {restarts} ]; then
  rm -f "$job"_*_result.pkl
  echo "$died" >>"$job.revived"
  for wait in 5 20 60 0; do  # a controller that is busy or restarting
    scontrol requeue "$job" && break
    sleep "$wait"
  done
fi
exit "$code\""""


UNLIMITED = 10**9  # jobs at once; submitit's own default is 256
# A script that no login shell runs may not know the command.
_MODULES = "command -v module >/dev/null || . /etc/profile"


def parameters(
    resources: Resources, logs: Path, parallelism: int | None, token: str, roots: list[str]
) -> dict[str, Any]:
    """What submitit is to write into the script.

    Args:
        token: a name of this submission, found again in the job's comment.
        roots: folders that the job's modules are imported from, if they are not installed.
    """
    extra: dict[str, Any] = {name.replace("_", "-"): value for name, value in resources.extra.items()}
    extra |= {"chdir": str(logs), "requeue": True, "signal": f"USR2@{resources.signal_delay}"}
    asked = {
        "job_name": "equipoise",
        "partition": resources.partition,
        "account": resources.account,
        "qos": resources.qos,
        "time": resources.time,
        "nodes": resources.nodes,
        "ntasks_per_node": resources.tasks_per_node,
        "gpus_per_node": resources.gpus_per_node if resources.gpus and not resources.gres else None,
        "cpus_per_task": resources.cpus_per_task,
        "mem": resources.memory,
        "comment": token,
        "array_parallelism": parallelism or UNLIMITED,
        "additional_parameters": extra,
        "setup": _setup(resources, roots),
        "teardown": _REVIVE.format(logs=shlex.quote(str(logs)), restarts=resources.restarts).splitlines(),
        # srun takes no cpus_per_task from the job since 22.05; if one rank dies the others would wait for it forever
        "srun_args": [f"--cpus-per-task={resources.cpus_per_task}"] + ["--kill-on-bad-exit=1"] * (resources.tasks > 1),
    }
    stated = {name: value for name, value in asked.items() if value is not None}
    return {**stated, "wckey": None}  # submitit's own would be refused where keys are checked


def _setup(resources: Resources, roots: list[str]) -> list[str]:
    path = resources.env.get("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    # absolute only: an empty or relative entry would be looked up in the job's working directory
    entries = dict.fromkeys([*roots, *(entry for entry in path.split(os.pathsep) if os.path.isabs(entry))])
    ours = {"PYTHONSAFEPATH": "1", "SUBMITIT_PREEMPT_SIGNAL": "USR2", "PYTHONPATH": os.pathsep.join(entries)}
    plain = {name: value for name, value in resources.env.items() if not is_secret(name, value)}
    first, then = (
        [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
        for values in (ours, {name: value for name, value in plain.items() if name not in ours})
    )
    load = [f"module load {shlex.quote(module)} || exit 1" for module in resources.modules]
    return [*first, *([_MODULES] * bool(load)), *load, *then, *resources.setup]


def command(resources: Resources, logs: Path) -> str:
    """What each task of the job runs."""
    python = resources.python or ("python3" if resources.container else sys.executable)
    return shlex.join([*resources.container, python, "-P", "-u", "-m", "slurm.launch", str(logs)])


class Executor(SlurmExecutor):
    """submitit's executor, with our launcher in front of its own."""

    def __init__(self, resources: Resources, logs: Path, settings: dict[str, Any]) -> None:
        super().__init__(logs, max_num_timeout=resources.max_requeues)
        self._command = command(resources, logs)
        self.update_parameters(**settings)

    @property
    def _submitit_command_str(self) -> str:
        return self._command


def script(resources: Resources, logs: Path, settings: dict[str, Any], count: int) -> str:
    """The batch script of `count` jobs, without asking anything of a cluster."""
    elements = count if count > 1 else None
    return _make_sbatch_string(command=command(resources, logs), folder=logs, map_count=elements, **settings)


@contextmanager
def submission_environment(resources: Resources) -> Iterator[None]:
    """The environment that sbatch hands on to the job: ours, plus the profile's secrets, minus other jobs' settings.

    SBATCH_… variables would override the profile; inside a job, SLURM_… variables describe that job, not the new one.
    """
    before = dict(os.environ)
    for name in before:
        if name.startswith(("SBATCH_", "SUBMITIT_")) or (name.startswith("SLURM_") and name not in _SITE):
            del os.environ[name]
    os.environ.update({name: value for name, value in resources.env.items() if is_secret(name, value)})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


_SITE = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT"}
