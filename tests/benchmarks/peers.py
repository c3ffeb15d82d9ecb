"""The same model and batch here, in Hugging Face `transformers`, and as a dense twin: tokens per second in one run.

`make bench-peers` prints the tables of docs/performance.md. Every arm is a process of its own, as its users would run
it; they take turns step by step, so that a busy machine slows all of them. A ratio is the median over rounds of theirs
over ours within a round.

What is equal: width, layers, heads, experts, top-k, expert width, vocabulary, untied embeddings, batch, float32,
AdamW (fused), gradient clipping, attention by torch's scaled_dot_product_attention, experts by grouped_mm where the
library has it. What differs: theirs have Llama-style rotary halves and their own router (softmax, normalised top-k),
OLMoE and Qwen3 also norms on queries and keys; ours has sigmoid scores and, in the `none` arm, no balancing rule.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch

import tasks
from strategies import RouteContext, registry
from suite import backends
from suite.training import optimizers
from suite.training.memory import keep_freed_memory
from suite.training.model import Transformer
from tasks import Rung

Step = Callable[[torch.Tensor], None]
ADAMW = {"rung.recipe": "adamw"}  # the peers' optimizer, whatever the rung's recipe is
SHAPES: dict[str, dict[str, Any]] = {
    "micro": {**ADAMW},
    "width 256": {**ADAMW, "rung.width": 256, "rung.batch_sequences": 8, "rung.micro_batches": 1},
}
THEIRS = ("olmoe", "qwen3_moe", "mixtral")


def ours(rung: Rung, strategy: str) -> Step:
    """One optimizer step of the suite's own model."""
    keep_freed_memory()  # as the suite's trials do
    cls = registry.get(strategy)
    load = backends.get("grouped").load()
    model = Transformer(rung, lambda spec: registry.build(cls, spec), load, 0, torch.ones(rung.vocab_size))
    optimizer = optimizers.build(model, rung)
    context = RouteContext(sequence_length=rung.sequence_length)

    def step(batch: torch.Tensor) -> None:
        for layer in model.moe_layers:
            layer.start_step()
        model.loss(batch, context).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), rung.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        for layer in model.moe_layers:
            layer.strategy.rebalance(layer.load_E.float(), layer.pooled)

    return step


def theirs(rung: Rung, family: str, experts: str) -> Step:
    """One optimizer step of the same model in `transformers`."""
    import transformers

    common = {
        "vocab_size": rung.vocab_size,
        "hidden_size": rung.width,
        "num_hidden_layers": rung.layers,
        "num_attention_heads": rung.heads,
        "num_key_value_heads": rung.heads,
        "num_experts_per_tok": rung.top_k,
        "max_position_embeddings": rung.sequence_length,
        "tie_word_embeddings": False,
        "use_cache": False,
        "pad_token_id": None,
        "attn_implementation": "sdpa",
        "experts_implementation": experts,
    }
    configs = {
        "olmoe": lambda: transformers.OlmoeConfig(
            num_experts=rung.experts, intermediate_size=rung.expert_width, norm_topk_prob=True, **common
        ),
        "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
            num_experts=rung.experts,
            moe_intermediate_size=rung.expert_width,
            head_dim=rung.width // rung.heads,
            norm_topk_prob=True,
            **common,
        ),
        "mixtral": lambda: transformers.MixtralConfig(
            num_local_experts=rung.experts, intermediate_size=rung.expert_width, sliding_window=None, **common
        ),
    }
    model = transformers.AutoModelForCausalLM.from_config(configs[family]())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(batch: torch.Tensor) -> None:
        # they shift labels themselves: one position less is predicted, which is in their favour
        model(input_ids=batch[:, :-1], labels=batch[:, :-1]).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), rung.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def peak(rows: int, inner: int, columns: int, rounds: int = 15) -> float:
    """float32 matrix-product speed at a shape, in FLOP/s: the median of several."""
    a, b = torch.randn(rows, inner), torch.randn(inner, columns)
    spent = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(4):
            a @ b
        spent.append((time.perf_counter() - started) / 4)
    return 2 * rows * inner * columns / median(spent)


def tokens_of(rung: Rung) -> torch.Tensor:
    """One batch, (B, S + 1). Zipf's law over tokens, as text has it: uniform tokens would balance any router."""
    shape = (rung.batch_sequences, rung.sequence_length + 1)
    draw = torch.Generator().manual_seed(0)
    weights_V = 1 / torch.arange(1.0, rung.vocab_size + 1)
    return torch.multinomial(weights_V, shape[0] * shape[1], replacement=True, generator=draw).view(shape)


def serve(channel: Connection, arm: tuple[str, ...], rung: Rung, threads: int) -> None:
    """One arm's process: makes its model, then times one step each time it is asked, until asked no more."""
    torch.set_num_threads(threads)
    try:
        step = ours(rung, *arm[1:]) if arm[0] == "ours" else theirs(rung, *arm[1:])
    except (ImportError, ValueError, AttributeError) as error:
        channel.send(str(error))
        return
    tokens = tokens_of(rung)
    for _ in range(2):
        step(tokens)
    channel.send(None)
    while channel.recv():
        started = time.perf_counter()
        step(tokens)
        channel.send(time.perf_counter() - started)


def measure(
    rung: Rung, rounds: int, threads: int, arms: dict[str, tuple[str, ...]], say: Callable[[str], None]
) -> dict[str, Any]:
    """Seconds of each arm's step in each round, and the machine's matrix-product speed, round by round."""
    processes = multiprocessing.get_context("spawn")
    channels: dict[str, Connection] = {}
    for name, arm in arms.items():
        mine, its = processes.Pipe()
        processes.Process(target=serve, args=(its, arm, rung, threads), daemon=True).start()
        its.close()
        try:
            why = mine.recv()
        except EOFError:
            why = "its process died"
        if why is None:
            channels[name] = mine
        else:
            say(f"{name}: not measured ({why})")
    seconds: dict[str, list[float]] = {name: [] for name in channels}
    peaks = []
    for number in range(rounds):
        for name, channel in channels.items():
            channel.send(True)
            seconds[name].append(channel.recv())
        peaks.append(peak(rung.tokens_per_step, rung.width, 2 * rung.top_k * rung.expert_width, 5))
        say(f"round {number + 1}/{rounds}")
    for channel in channels.values():
        channel.send(False)
    return {"seconds": seconds, "peaks": peaks, "large_peak": peak(2048, 2048, 2048, 5)}


def table(rung: Rung, result: dict[str, Any]) -> list[str]:
    """Markdown lines: tokens/s, ours over theirs, share of the matrix-product peak at this shape."""
    seconds, shape_peak = result["seconds"], median(result["peaks"])
    base = seconds["ours, none"]
    lines = [
        f"dense float32 peak at this shape {shape_peak / 1e9:.0f} GFLOP/s, at 2048³ "
        f"{result['large_peak'] / 1e9:.0f} GFLOP/s",
        "",
        "| arm | tokens/s | ours is faster by | share of the shape's peak |",
        "| --- | --- | --- | --- |",
    ]
    for name, spent in seconds.items():
        ratios = sorted(theirs / own for theirs, own in zip(spent, base, strict=True))
        typical = median(spent)
        share = rung.flops_per_token * rung.tokens_per_step / typical / shape_peak
        lines.append(
            f"| {name} | {rung.tokens_per_step / typical:,.0f} | {median(ratios):.2f} × "
            f"({ratios[0]:.2f} … {ratios[-1]:.2f}) | {share:.0%} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="steps of each arm that are timed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--shapes", default=",".join(SHAPES), help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--families", default=",".join(THEIRS), help=f"of {', '.join(THEIRS)}")
    parser.add_argument("--experts", default="grouped_mm", help="their experts: grouped_mm, eager, batched_mm")
    parser.add_argument("--out", type=Path, help="also write the raw seconds here, as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    raw: dict[str, Any] = {"machine": platform.machine(), "threads": options.threads, "torch": torch.__version__}
    for shape in options.shapes.split(","):
        rung = tasks.load("mix-micro", SHAPES[shape]).rung
        arms = {
            "ours, none": ("ours", "none"),
            "ours, smebu": ("ours", "smebu"),
            "dense twin": ("ours", "dense"),
        }
        for family in options.families.split(","):
            for experts in options.experts.split(","):
                arms[f"transformers {family}, {experts}"] = ("theirs", family, experts)
        print(
            f"\n{shape}: {rung.layers} layers, width {rung.width}, {rung.experts} experts of {rung.expert_width}, "
            f"top-{rung.top_k}, {rung.batch_sequences} × {rung.sequence_length} tokens; {options.threads} threads, "
            f"torch {torch.__version__}, {options.rounds} rounds",
            flush=True,
        )
        raw[shape] = measure(rung, options.rounds, options.threads, arms, lambda line: print(f"  {line}", flush=True))
        print("\n".join(table(rung, raw[shape])), flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
