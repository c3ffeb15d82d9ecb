"""Provenance: what a record says of the machine."""

from pathlib import Path

from suite.storage import provenance


def test_the_label_of_a_machine_is_the_same_for_every_share_of_it(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    facts = provenance.hardware.__wrapped__("cpu")
    assert facts["label"].endswith("· 64 cores")
    assert facts["cores"] == 8


def test_processors_of_one_name_are_told_apart(monkeypatch):
    told = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n"
    kept = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, *a, **k: told if str(path) == "/proc/cpuinfo" else kept(path, *a, **k)
    )
    assert provenance.generation.__wrapped__() == "AuthenticAMD family 25 model 17"
    monkeypatch.setattr(provenance, "generation", provenance.generation.__wrapped__)
    monkeypatch.setattr(provenance, "cpu_name", provenance.cpu_name.__wrapped__)
    assert provenance.cpu_name() == "AMD EPYC"
    assert provenance.hardware.__wrapped__("cpu")["processor"] == "AuthenticAMD family 25 model 17"
    told = "processor : 0\nBogoMIPS : 100.00\n"  # as other architectures have it
    assert "processor" not in provenance.hardware.__wrapped__("cpu")
