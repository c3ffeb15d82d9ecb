"""Hugging Face data sets: the real loading code on a local data set of the same format."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import results
import tasks
from results.records.published import trials_of
from tasks import hub
from tasks.corpus import HubDomain
from tasks.errors import CorpusError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")


def write_rows(path, rows, column="text"):
    path.write_text("".join(json.dumps({column: row, "id": i}) + "\n" for i, row in enumerate(rows)), encoding="utf-8")
    return str(path)


def domain(path, **given):
    return HubDomain(dataset="json", data_files=[path], **{"megabytes": 1, **given})


def test_rows_are_documents_in_their_order(tmp_path):
    rows = ["first", "zweite 😀", "third"]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    assert list(hub.documents(domain(path))) == [("0", rows[0]), ("1", rows[1]), ("2", rows[2])]


def test_streaming_stops_at_the_size_asked_for(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", ["é" * 200_000] * 20)
    assert len(list(hub.documents(domain(path)))) == 3  # of 0.4 MB each


def test_rows_are_joined_to_documents(tmp_path):
    rows = ["", " = One = \n", "a\n", " = = Part = = \n", "b\n", " = Two = \n", "c\n"]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    starts = tasks.load("wikitext-micro").corpus.domains["wikitext"].starts
    texts = [text for _, text in hub.documents(domain(path, starts=starts))]
    assert texts == ["", " = One = \na\n = = Part = = \nb\n", " = Two = \nc\n"]


def test_a_pattern_that_never_matches_cannot_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "LARGEST_DOCUMENT", 10)
    path = write_rows(tmp_path / "rows.jsonl", ["12345678"] * 5)
    assert [text for _, text in hub.documents(domain(path, starts="never"))] == [
        "12345678" * 2,
        "12345678" * 2,
        "12345678",
    ]


def test_a_hub_task_trains_on_a_local_data_set(tmp_path):
    draw = np.random.default_rng(0)
    rows = [" ".join(draw.choice(["one", "two", "three", "four"], 200)) for _ in range(60)]
    overrides = {
        "corpus.domains": {"local": domain(write_rows(tmp_path / "rows.jsonl", rows)).model_dump()},
        "rung.vocab_size": 300,
        "rung.sequence_length": 32,
        "rung.eval_sequences": 6,
    }
    source = tasks.open_source(tasks.load("wikitext-micro", overrides), tmp_path / "cache", 0)
    assert source.domains == ["local"]
    assert source.batch(0)[0].shape == (32, 33)


COMMIT = "1588ec454efa1a09f29cd18ddd04fe05fc8653a2"


class Hub:
    """What `datasets` says of a data set whose newest commit is COMMIT; it notes at what its rows were read."""

    def __init__(self, monkeypatch):
        self.read_at = []
        monkeypatch.setattr(datasets, "load_dataset_builder", self.builder)
        monkeypatch.setattr(datasets, "load_dataset", self.rows)

    def builder(self, name, subset, *, data_files, revision):
        return types.SimpleNamespace(hash=COMMIT if revision is None else revision)

    def rows(self, name, subset, *, revision, **options):
        self.read_at.append(revision)
        return [{"text": f"text number {number} " * 50} for number in range(60)]


def prepared(tmp_path, said, **given):
    """The facts of a domain streamed from the hub, prepared."""
    overrides = {
        "corpus.domains": {"web": {"dataset": "allenai/c4", "subset": "en", "megabytes": 1, **given}},
        "rung.vocab_size": 300,
    }
    folder = tasks.prepare(tasks.load("wikitext-micro", overrides), tmp_path, said.append)
    return folder, json.loads((folder / "facts.json").read_text())


def test_what_a_data_set_was_read_at_is_said_and_kept(tmp_path, monkeypatch):
    hub_, said = Hub(monkeypatch), []
    _, facts = prepared(tmp_path, said)
    assert hub_.read_at == [COMMIT]  # not whatever is newest by the time that rows come
    assert facts["domains"]["web"]["dataset"] == "allenai/c4"
    assert facts["domains"]["web"]["revision"] == COMMIT
    assert said[0] == (
        f"web: streaming 1 MB of allenai/c4 at {COMMIT}, as of now; corpus.domains.web.revision: {COMMIT} keeps to it"
    )


def test_a_pinned_revision_is_asked_for_and_makes_another_corpus_of_the_same_text(tmp_path, monkeypatch):
    other = "f" * 40
    hub_, said = Hub(monkeypatch), []
    free, facts = prepared(tmp_path, said)
    pinned, facts_pinned = prepared(tmp_path, said, revision=other)
    assert hub_.read_at == [COMMIT, other]
    assert facts_pinned["domains"]["web"]["revision"] == other
    assert free != pinned
    assert facts["digest"] == facts_pinned["digest"]  # of the tokens alone
    assert "web: streaming 1 MB of allenai/c4" in said


def test_files_of_ones_own_have_no_revision(tmp_path):
    assert hub.revision(domain(write_rows(tmp_path / "rows.jsonl", ["x"]))) is None


def test_published_boards_rest_on_no_text_that_may_change():
    """A suite that trains on a data set of the hub is published once the catalogue, or the suite, says its commit."""
    read = 0
    for manifest in (Path(results.__file__).parent / "published").glob("*/manifest.json"):
        for trial in {cell["task"]: cell for cell in json.loads(manifest.read_text())["trials"]}.values():
            record = trials_of(manifest.parent) / trial["trial_key"] / "record.json"
            read += record.exists()
            corpus = json.loads(record.read_text())["config"]["task"]["corpus"] if record.exists() else {}
            for name, source in corpus["domains"].items() if corpus.get("kind") == "hub" else ():
                key = f"{manifest.parent.name}: {trial['task']}: corpus.domains.{name}.revision"
                assert hub.COMMIT.fullmatch(source["revision"] or ""), f"{key}: expected a commit"
    assert read


def refused(spec):
    with pytest.raises(CorpusError) as caught:
        list(hub.documents(spec))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_column_is_named(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", ["x"], column="content")
    assert refused(domain(path)) == "json: has no column 'text'; columns: content, id"


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = refused(HubDomain(dataset="allenai/c4", megabytes=1))
    assert message == "allenai/c4: needs the package datasets; install it with `pip install 'equipoise[hub]'`"


def test_without_a_network_the_message_says_what_to_do(monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("Couldn't reach 'allenai/c4'\nand a second line")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    message = refused(HubDomain(dataset="allenai/c4", megabytes=1))
    assert message == (
        "allenai/c4: cannot be read from the Hugging Face hub (ConnectionError: Couldn't reach 'allenai/c4'); "
        "check its name and the network, or run `equipoise prepare` where the hub can be reached"
    )


def test_the_catalogs_data_sets_are_asked_for_by_name(monkeypatch):
    asked = []

    def record(name, subset, **options):
        asked.append((name, subset, options["split"], options["streaming"]))
        return [{"text": " = Title = \n"}] * 2

    monkeypatch.setattr(datasets, "load_dataset", record)
    for name in ("fineweb-small", "c4-small", "wikitext-small"):
        for spec in tasks.load(name).corpus.domains.values():
            next(hub.documents(spec))
    assert asked == [
        ("HuggingFaceFW/fineweb-edu", "sample-10BT", "train", True),
        ("allenai/c4", "en", "train", True),
        ("Salesforce/wikitext", "wikitext-103-raw-v1", "train", True),
    ]
