"""The shape of the two files everything here is computed from: a trial's record and a suite's manifest.

The fields are those of docs/formats.md. What a row of a leaderboard cannot do without is required; the rest is
checked when it is there. Keys that are not listed pass unchecked, so that a record may grow.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import ConfigDict, StringConstraints
from typing_extensions import TypedDict

STRICT = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

Number = float | None  # a missing number is null, never NaN
Key = Annotated[str, StringConstraints(pattern=r"^[\w-]+$")]  # names a folder, so it may not lead out of one


class StrategySpec(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    name: str
    config: dict[str, object]
    terms: dict[str, float]


class TaskSpec(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    name: str


class TrialConfig(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    strategy: StrategySpec
    task: TaskSpec
    seed: int


class Hardware(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    label: str


class Provenance(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    hardware: Hardware
    git_revision: NotRequired[str | None]
    git_dirty: NotRequired[bool | None]
    packages: NotRequired[dict[str, str]]
    corpus_digest: NotRequired[str | None]
    started: NotRequired[str]


class GlobalVio(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    mean: Number
    worst: Number
    layers: list[Number]


class BatchVio(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    tail_mean: Number
    tail_worst: Number
    peak: Number


class BiasHealth(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    max_abs: Number
    common: Number
    mean_abs_step: Number
    flip_rate: Number
    tail_std: Number


class Measures(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    steps: int
    tokens: int
    val_loss: Number
    perplexity: NotRequired[Number]
    bits_per_byte: NotRequired[Number]
    val_loss_by_domain: NotRequired[dict[str, Number] | None]
    train_loss_tail: NotRequired[Number]
    max_vio_global: GlobalVio | None
    max_vio_batch: BatchVio | None
    noise_floor: NotRequired[dict[str, Number] | None]
    balance: NotRequired[dict[str, Number] | None]
    overflow: dict[str, Number] | None
    dead_experts: dict[str, Number] | None
    fluctuation: NotRequired[dict[str, Number] | None]
    saturation: NotRequired[list[dict[str, Number]] | None]
    bias: NotRequired[BiasHealth | None]
    specialisation: NotRequired[Number]
    parameters: NotRequired[dict[str, int] | None]
    flops_per_token: NotRequired[Number]
    diverged_at_step: NotRequired[int | None]


class Timing(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    train_seconds: Number
    tokens_per_second: Number
    peak_memory_bytes: NotRequired[Number]
    mfu: NotRequired[Number]
    step_ms: dict[str, Number]


class Record(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    schema: Literal[1]
    trial_key: Key
    config: TrialConfig
    provenance: Provenance
    status: Literal["finished", "diverged"]
    attempts: NotRequired[list[dict[str, object]]]
    measures: Measures
    timing: Timing


class ManifestTask(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    name: str
    title: NotRequired[str | None]
    tokens: NotRequired[int]
    experts: NotRequired[int]
    top_k: NotRequired[int]
    moe_layers: NotRequired[int]
    uniform_loss: NotRequired[Number]


class ManifestArm(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    arm: str
    strategy: str
    title: str
    paper: NotRequired[dict[str, object] | None]
    causal: NotRequired[bool]
    variable_k: NotRequired[bool]
    config: NotRequired[dict[str, object]]
    terms: NotRequired[dict[str, float]]
    task: NotRequired[dict[str, object]]
    knob: NotRequired[dict[str, object] | None]
    note: NotRequired[str | None]


class ManifestTrial(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    arm: str
    task: str
    seed: int
    trial_key: Key


class Horizons(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    half: str  # the baseline's arm at half the steps, with a schedule of its own
    double: str


class Asks(TypedDict):
    """All that the suite asks for, whatever part of it the manifest holds."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    tasks: list[str]
    arms: list[str]
    seeds: int


class Manifest(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    schema: Literal[1]
    suite: str
    title: NotRequired[str]
    protocol_version: str
    protocol_digest: NotRequired[str | None]
    baseline: str
    control: NotRequired[str | None]  # the arm without balancing, that costs and loads are measured against
    twin: NotRequired[str | None]  # the arm without a choice of experts, at equal FLOPs: what experts are worth
    aa_arm: NotRequired[str | None]
    horizons: NotRequired[Horizons | None]
    margin: NotRequired[Number]
    track: NotRequired[str]
    asks: NotRequired[Asks]
    tasks: list[ManifestTask]
    arms: list[ManifestArm]
    trials: list[ManifestTrial]
