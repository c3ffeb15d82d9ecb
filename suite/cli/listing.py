"""`equipoise list`: what there is."""

from __future__ import annotations

from typing import Any

import click

from results.text import counted
from suite.cli.options import json_option, print_json

KINDS = ("strategies", "tasks", "rungs", "suites", "claims", "backends")


def strategy_rows() -> list[dict[str, Any]]:
    from strategies import registry
    from suite.planning.plan import facts

    return [{"name": name, **facts(cls)} for name, cls in registry.available().items()]


def task_rows() -> list[dict[str, Any]]:
    import tasks

    rows = []
    for name in tasks.names():
        task = tasks.load(name)
        rung = task.rung
        rows.append(
            {
                "name": name,
                "title": task.title,
                "rung": rung.name,
                "experts": rung.experts,
                "top_k": rung.top_k,
                "tokens": rung.tokens,
                "parameters": rung.parameters(),
            }
        )
    return rows


def rung_rows() -> list[dict[str, Any]]:
    from suite.planning.estimate import gpu_hours, memory, training_flops
    from tasks import catalog

    return [
        {
            "name": name,
            "title": f"{rung.layers} layers of width {rung.width}",
            "experts": rung.experts,
            "top_k": rung.top_k,
            "shared_experts": rung.shared_experts,
            "expert_width": rung.expert_width,
            "moe_layers": len(rung.moe_layers()),
            "parameters": rung.parameters(),
            "tokens": rung.tokens,
            "flops_per_token": rung.flops_per_token,
            "flops": training_flops(rung),
            "memory_bytes": memory(rung),
            "gpu_hours": gpu_hours(rung),
        }
        for name, rung in catalog.rungs().items()
    ]


def suite_rows() -> list[dict[str, Any]]:
    from suite.planning import library

    rows = []
    for name in library.names():
        suite = library.load(name)
        rows.append(
            {
                "name": name,
                "title": suite.title,
                "tasks": [task.task for task in suite.tasks],
                "strategies": [arm.name for arm in suite.strategies],
                "seeds": len(suite.seed_list),
            }
        )
    return rows


def backend_rows() -> list[dict[str, Any]]:
    from suite import backends

    return [{"name": backend.name, "title": backend.title} for backend in backends.available()]


def claim_rows() -> list[dict[str, Any]]:
    from results import claims

    return [
        {
            "name": claim.id,
            "title": claim.statement,
            "topic": claim.topic,
            "said": claim.said.number,
            "testable": claim.testable,
        }
        for claim in claims.load_all()
    ]


ROWS = {
    "strategies": strategy_rows,
    "tasks": task_rows,
    "rungs": rung_rows,
    "suites": suite_rows,
    "claims": claim_rows,
    "backends": backend_rows,
}


def describe(kind: str, row: dict[str, Any]) -> str:
    """The rest of a line after the name."""
    from suite.words import quantity

    if kind == "strategies":
        paper = row["paper"]
        source = f"{paper['citation']} ({paper['year']}, {paper['identifier']})" if paper else ""
        return f"{row['title']}{'' if row['causal'] else ' · not causal in training'} · {source}".rstrip(" ·")
    if kind == "tasks":
        size = quantity(row["parameters"]["total"])
        shape = f"{row['experts']} experts, top-{row['top_k']}"
        return f"{row['title']} · {shape} · {size} parameters · {quantity(row['tokens'])} tokens"
    if kind == "rungs":
        counts = row["parameters"]
        shared = f" + {row['shared_experts']}" if row["shared_experts"] else ""
        return (
            f"{row['title']} · {row['moe_layers']} MoE · {row['experts']} experts, top-{row['top_k']}{shared} · "
            f"{quantity(counts['total'])} parameters, {quantity(counts['active'])} active · "
            f"{quantity(row['tokens'])} tokens · {quantity(row['flops'], 'FLOP')} · "
            f"{quantity(row['memory_bytes'], 'B')} · {quantity(row['gpu_hours'])} GPU-hours"
        )
    if kind == "suites":
        return (
            f"{row['title']} · {counted(len(row['strategies']), 'strategy', 'strategies')} × "
            f"{counted(len(row['tasks']), 'task')} × {counted(row['seeds'], 'seed')}"
        )
    if kind == "claims":
        return f"{row['title']} · said: {row['said']}{'' if row['testable'] else ' · not testable here'}"
    return str(row["title"])


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS), required=False)
@json_option
def list_(kind: str | None, as_json: bool) -> None:
    """Strategies, tasks, rungs, suites, claims and backends, one line each.

    Costs of rungs are computed: float32 training state in memory, hours on one H200 at a quarter of its bf16 peak.

    \b
      equipoise list strategies
      equipoise list suites
    """
    kinds = [kind] if kind else list(KINDS)
    rows = {name: ROWS[name]() for name in kinds}
    if as_json:
        print_json(rows[kind] if kind else rows)
        return
    for name in kinds:
        if not kind:
            click.secho(name, bold=True)
        width = max(len(row["name"]) for row in rows[name])
        for row in rows[name]:
            click.echo(f"{'' if kind else '  '}{row['name']:<{width}}  {describe(name, row)}")
