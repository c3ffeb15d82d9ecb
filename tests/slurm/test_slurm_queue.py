"""Reading squeue and sacct, given what real ones print."""

import pytest

from slurm.commands import ClusterError, one_line, setting
from slurm.queue import JobState, states

OFF = "echo 'Slurm accounting storage is disabled' >&2; exit 1"


def squeue(*rows):
    """Output in the columns that `states` asks for: 40, 24, 64, 12, 12, 256, 128 wide."""
    widths = (40, 24, 64, 12, 12, 256, 128)
    lines = ["".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "cat <<'END'\n" + "\n".join(lines) + "\nEND"


def test_squeue_alone(fake):
    fake("sacct", OFF)
    rows = [
        ("12_0", "RUNNING", "None", "0", "0", "n[0-1]", "equipoise-12"),
        ("12_1", "PENDING", "BeginTime", "2", "0", "", "equipoise-12"),
        ("12_2", "FAILED", "NonZeroExitCode", "0", "256", "n1", "equipoise-12"),
        ("13", "FAILED", "RaisedSignal:9(Killed)", "0", "9", "n1", "equipoise-13"),
        ("14", "FAILED", "NonZeroExitCode", "0", str(137 << 8), "n1", ""),
        ("99", "RUNNING", "None", "0", "0", "n2", ""),
    ]
    fake("squeue", squeue(*rows))
    known = states(["12_0", "12_1", "12_2", "13", "14", "15"])
    assert known == {
        "12_0": JobState("RUNNING", "", "n[0-1]", comment="equipoise-12"),
        "12_1": JobState("PENDING", "BeginTime", "", restarts=2, comment="equipoise-12"),
        "12_2": JobState("FAILED", "NonZeroExitCode", "n1", exit_code=1, comment="equipoise-12"),
        "13": JobState("FAILED", "RaisedSignal:9(Killed)", "n1", signal=9, comment="equipoise-13"),
        "14": JobState("FAILED", "NonZeroExitCode", "n1", signal=9, comment=""),  # srun says 128 + the signal
    }
    assert [known[job].active for job in ("12_0", "12_1", "12_2")] == [True, True, False]


def test_sacct_knows_what_squeue_forgot(fake):
    fake("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    rows = "12_0|COMPLETED|None|n0|0:0\n12_1|CANCELLED by 1000|None|n1|0:15\n13|OUT_OF_MEMORY|None|n2|137:0"
    fake("sacct", f"cat <<'END'\n{rows}\nEND")
    assert states(["12_0", "12_1", "13"]) == {
        "12_0": JobState("COMPLETED", "", "n0"),
        "12_1": JobState("CANCELLED", "", "n1", signal=15),
        "13": JobState("OUT_OF_MEMORY", "", "n2", signal=9),
    }


def test_a_silent_controller_is_an_error_of_one_line(fake):
    fake("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1")
    with pytest.raises(
        ClusterError, match=r"^slurm_load_jobs error: Unable to contact slurm controller \(connect failure\)$"
    ):
        states(["1"])


def test_missing_commands_are_named(fake):
    with pytest.raises(ClusterError, match="squeue: not found; are SLURM's commands on the PATH"):
        states(["1"])
    assert setting("MaxArraySize") is None


def test_many_arrays_are_asked_for_in_few_calls(fake, tmp_path):
    fake("sacct", OFF)
    fake("squeue", f"echo call >> {tmp_path}/calls")
    states(f"{job}_{index}" for job in range(500) for index in range(3))
    assert (tmp_path / "calls").read_text().count("call") == 3


def test_the_cluster_is_quoted_last_complaint_first():
    said = (
        "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: no such partition\n"
    )
    expected = "Batch job submission failed: no such partition; invalid partition specified: x"
    assert one_line(said) == expected


def test_settings_of_the_controller(fake):
    fake("scontrol", "printf 'MaxArraySize            = 1001\\nClusterName             = big\\n'")
    assert setting("MaxArraySize") == "1001"
    assert setting("ClusterName") == "big"
    assert setting("Nonsense") is None
