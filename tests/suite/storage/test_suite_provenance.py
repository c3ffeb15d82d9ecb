"""Provenance: what a record says of the machine."""

from suite.storage import provenance


def test_the_label_of_a_machine_is_the_same_for_every_share_of_it(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    facts = provenance.hardware.__wrapped__("cpu")
    assert facts["label"].endswith("· 64 cores")
    assert facts["cores"] == 8
