"""What every task of a job runs first: `python -P -m slurm.launch FOLDER`.

Loading takes a second, or ten from a slow file system, and a signal that arrives meanwhile would kill a process that
isn't listening yet. So it is held back until the trials are (`slurm.job` lets it through).
"""

from __future__ import annotations

import signal

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})

    from submitit.core.submission import submitit_main

    submitit_main()
