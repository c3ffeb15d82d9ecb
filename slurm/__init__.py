"""Trials onto a SLURM cluster: profiles, job arrays, requeueing, states, and a one-machine test cluster.

Knows nothing of strategies, tasks or training: it is handed the import path of a function that runs one trial,
and reads what a trial leaves in its folder (docs/formats.md).
"""

from slurm.trials import TrialJob, logs_of

__all__ = ["TrialJob", "logs_of"]
