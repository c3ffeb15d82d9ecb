"""Names, overrides, what identifies a task, and what is refused."""

from __future__ import annotations

import json

import pytest

import tasks


def test_every_task_of_the_catalog_loads_and_is_plain_data():
    names = tasks.names()
    assert len(names) == len(set(names))
    assert {"mix-nano", "mix-micro", "shift-nano", "zipf-nano", "long-nano", "sparse-nano", "collapse-nano"} <= set(
        names
    )
    for name in names:
        task = tasks.load(name)
        assert task.name == name
        assert task.title
        assert json.loads(json.dumps(task.resolved())) == task.resolved()


def test_overrides_change_what_they_name_and_what_is_derived_from_it():
    plain, changed = tasks.load("mix-nano"), tasks.load("mix-nano", {"rung.steps": 50, "rung.top_k": 4})
    assert (changed.rung.steps, changed.rung.top_k) == (50, 4)
    assert changed.rung.warmup_steps == 5
    assert changed.rung.expert_width == 40  # 8/3 · 64 / 4 = 42.7, to a multiple of 8
    assert plain.rung.steps == 100
    assert changed.corpus == plain.corpus


def test_an_override_of_the_horizon_replaces_stated_steps():
    rung = tasks.load("mix-nano", {"rung.horizon": 2.0}).rung
    assert rung.steps == round(2 * rung.parameters()["active"] / rung.tokens_per_step)


def test_a_kind_scales_what_the_rules_gave_unless_the_user_states_it():
    nano = tasks.rungs()["nano"]
    assert tasks.load("long-nano").rung.steps == 8 * nano.steps
    assert tasks.load("long-nano").rung.eval_every == 8 * nano.eval_every
    assert tasks.load("long-nano", {"rung.steps": 30}).rung.steps == 30
    hot, plain = tasks.load("collapse-nano").rung, tasks.load("mix-nano", {"rung.recipe": "adamw"}).rung
    assert hot.router_rate == 8 * plain.router_rate
    assert hot.embedding_rate == plain.embedding_rate
    assert hot.router_std < plain.router_std
    assert tasks.load("collapse-nano", {"rung.router_rate": 0.01}).rung.router_rate == 0.01
    quarter = tasks.load("batch-quarter-bench").rung
    assert quarter.tokens == tasks.load("mix-bench").rung.tokens
    assert quarter.batch_sequences * 4 == tasks.load("mix-bench").rung.batch_sequences


def test_sparse_has_4_of_256_experts_and_a_shared_one():
    for name in ("sparse-nano", "sparse-bench", "sparse-micro"):
        rung = tasks.load(name).rung
        assert (rung.experts, rung.top_k, rung.shared_experts) == (256, 4, 1)


def test_axis_tasks_differ_from_their_rung_in_one_thing():
    bench = tasks.load("mix-bench").rung.model_dump()
    experts = tasks.load("experts-128-bench").rung.model_dump()
    assert {key for key in bench if bench[key] != experts[key]} == {"experts"}
    words = tasks.load("vocab-4096-bench").rung.model_dump()
    assert {key for key in bench if bench[key] != words[key]} == {"vocab_size"}
    top = tasks.load("top-8-bench").rung
    assert top.top_k * top.expert_width == pytest.approx(2 * bench["expert_width"], rel=0.1)


def test_resolved_holds_what_changes_numbers_and_nothing_else():
    task = tasks.load("mix-nano")
    assert tasks.load("mix-nano", {"rung.checkpoint_every": 7}).resolved() == task.resolved()
    for overrides in (
        {"rung.steps": 99},
        {"rung.eval_every": 3},
        {"corpus.domains.code.networkx.leave_out": []},
        {"corpus.phases": [{"until": 1.0, "shares": {"code": 1}}]},
    ):
        assert tasks.load("mix-nano", overrides).resolved() != task.resolved()


def test_a_local_text_is_identified_by_its_content(text_task, text_folder):
    before = text_task.resolved()
    assert text_task.resolved() == before
    file = text_folder / "prose" / "3.txt"
    file.write_text(file.read_text(encoding="utf-8") + "one word more", encoding="utf-8")
    assert text_task.resolved()["corpus"]["content"] != before["corpus"]["content"]


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("mix-nan", {}, "task: 'mix-nan' is not a task; nearest: \"mix-nano\""),
        ("mix-nano", {"rung.stepz": 3}, 'rung.stepz: unknown key (value 3); nearest: "steps"'),
        ("mix-nano", {"steps": 3}, 'steps: unknown key (value 3); expected rung.… or corpus.…; nearest: "rung.steps"'),
        ("mix-nano", {"rung.name": "x"}, "rung.name: unknown key (value 'x')"),
        ("mix-nano", {"rung.steps": "3"}, "rung.steps: '3' is impossible; it should be a valid integer"),
        ("mix-nano", {"rung.steps": 3.0}, "rung.steps: 3.0 is impossible; it should be a valid integer"),
        ("mix-nano", {"rung.steps": True}, "rung.steps: True is impossible; it should be a valid integer"),
        ("mix-nano", {"rung.steps": 0}, "rung.steps: 0 is impossible; it should be greater than or equal to 1"),
        (
            "mix-nano",
            {"rung.batch_sequences": 99999999999999999999},
            "rung.batch_sequences: 99999999999999999999 is impossible; it should be less than or equal to 10000",
        ),
        ("mix-nano", {"corpus.kind": [1]}, "corpus.kind: [1] is not a kind of corpus"),
        ("mix-nano", {"rung.layers": 10**9}, "rung.layers: 1000000000 is impossible; it should be less than or equal"),
        ("mix-nano", {"rung.horizon": 1e300}, "rung.horizon: 1e+300 is impossible; it should be less than or equal"),
        ("mix-nano", {"rung.width": 10**11}, "rung: layers 2, width 100000000000, experts 16, expert_width "),
        (
            "mix-nano",
            {"rung.learning_rate": float("nan")},
            "rung.learning_rate: nan is impossible; it should be a finite",
        ),
        ("mix-nano", {"rung.recipe": "moun"}, "rung.recipe: 'moun' is not a recipe; nearest: \"muon\""),
        ("mix-nano", {"rung.recipe": 3}, "rung.recipe: 3 is impossible; it should be a valid string"),
        ("mix-nano", {"rung.routr_rate": 0.1}, 'rung.routr_rate: unknown key (value 0.1); nearest: "router_rate"'),
        ("mix-nano", {"rung.router_rate": 0.0}, "rung.router_rate: 0.0 is impossible; it should be greater than 0"),
        (
            "mix-nano",
            {"rung.score": "sigmod"},
            "rung.score: 'sigmod' is impossible; it should be 'sigmoid', 'softmax' or",
        ),
        ("mix-nano", {"rung.top_k": 17}, "rung.top_k: 17 is impossible; expected at most experts = 16"),
        ("mix-nano", {"rung.heads": 3}, "rung.heads: 3 is impossible; expected a divisor of width / 2 = 32"),
        (
            "mix-nano",
            {"rung.micro_batches": 3},
            "rung.micro_batches: 3 is impossible; expected a divisor of batch_sequences",
        ),
        ("mix-nano", {"rung.warmup_steps": 101}, "rung.warmup_steps: 101 is impossible; expected at most steps = 100"),
        ("mix-nano", {"rung.moe_positions": [2]}, "rung.moe_positions: [2] is impossible; expected different layer"),
        (
            "mix-nano",
            {"rung.moe_positions": [1, 0]},
            "rung.moe_positions: [1, 0] is impossible; expected different layer",
        ),
        (
            "mix-nano",
            {"rung.moe_positions": []},
            "rung.moe_positions: [] is impossible; expected at least one MoE layer",
        ),
        ("mix-nano", {"rung.dense_layers": 2}, "rung.dense_layers: 2 is impossible; expected at least one MoE layer"),
        ("mix-nano", {"rung.dense_layers": 3}, "rung.dense_layers: 3 is impossible; expected at most layers = 2"),
        ("mix-nano", {"rung.vocab_size": 256}, "rung.vocab_size: 256 is impossible; expected at least 257"),
        ("zipf-nano", {"rung.vocab_size": 9}, "rung.vocab_size: 9 is impossible; expected at least 10"),
        ("mix-nano", {"corpus.kind": "txt"}, "corpus.kind: 'txt' is not a kind of corpus; nearest: \"text\""),
        ("mix-nano", {"corpus.kind": "text"}, "corpus.path: missing; expected a value"),
        (
            "mix-nano",
            {"corpus.kind": "text", "corpus.pth": "x"},
            "corpus.pth: unknown key (value 'x'); nearest: \"path\"",
        ),
        (
            "mix-nano",
            {"corpus.kind": "text", "corpus.path": 3},
            "corpus.path: 3 is impossible; it should be a valid string",
        ),
        (
            "mix-nano",
            {"corpus.domains.code.networkx.fils": []},
            'corpus.domains.code.networkx.fils: unknown key (value []); nearest: "files"',
        ),
        ("mix-nano", {"corpus.kind.x": 1}, "corpus.kind.x: unknown key (value 1); there is nothing under kind"),
        (
            "mix-nano",
            {"corpus.domains.code.networkx.archive.sha256": "ab"},
            "corpus.domains.code.networkx.archive.sha256: 'ab' is impossible",
        ),
    ],
)
def test_bad_requests_are_refused_in_one_line(name, overrides, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        tasks.load(name, overrides)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_record_is_prepared_in_the_catalogues_order():
    """JSON is sorted by name; a vocabulary depends on the order of domains and sources."""
    task = tasks.load("text-nano")
    content = json.loads(json.dumps(task.model_dump(mode="json"), sort_keys=True))
    assert list(content["corpus"]["domains"]) != list(task.corpus.domains)
    again = tasks.recorded(content)
    assert again == task
    assert list(again.corpus.domains) == list(task.corpus.domains)
    assert list(again.corpus.domains["documentation"]) == list(task.corpus.domains["documentation"])
    other = tasks.load("text-nano", {"corpus.megabytes": 3}).model_dump(mode="json")
    assert tasks.recorded(other).corpus.megabytes == 3
