"""Reading a machine's file, and the time of a training step on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from results.records import nearest

FOLDER = Path(__file__).parents[1] / "machines"
DEFAULT = "h100"

Above0 = Annotated[float, Field(gt=0, allow_inf_nan=False)]
AtLeast0 = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Source = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rate(_Strict):
    """A figure above zero, and where it comes from."""

    value: Above0
    source: Source


class Delay(_Strict):
    """A figure of zero or more, and where it comes from."""

    value: AtLeast0
    source: Source


class Layer(_Strict):
    """The MoE layer that is trained: the ladder's proportions, at a width that real models have."""

    width: Count
    sequence_length: Count
    tokens_per_device: Count  # in one step: the batch grows with the devices
    bytes_per_value: Count


class Machine(_Strict):
    """A kind of device and the links between them."""

    machine: str
    title: str
    devices_per_node: Count
    dense_flops: Rate  # FLOP/s that a whole dense layer reaches, forward and backward
    expert_flops: Rate  # FLOP/s that a whole layer of experts reaches, routing included
    link_inside: Rate  # bytes/s that a device sends to others of its node
    link_between: Rate  # bytes/s that a device sends to other nodes
    layer_seconds: Delay  # of a layer whatever its load: launches and the like
    exchange_seconds: Delay  # of one exchange whatever its size
    layer: Layer

    def step_seconds(self, rows: float, devices: int, layers: int, top_k: int, *, routed: bool = True) -> float:
        """Seconds of a training step, forward and backward.

        Per token and layer attention costs 24 D² + 12 D S FLOPs, and an assignment 18 D F = 48 D²/k: the k experts of a
        token are together 8/3 D wide, as the ladder has them. An assignment's hidden state is exchanged four times:
        out and back, forward and backward. What stays in the node and what leaves it travel at the same time.
        Optimizer, embeddings and the exchange of gradients are left out: they are the same for every strategy.

        Args:
            rows: mean of `device_rows` over training, for this number of devices.
            layers: MoE layers.
            routed: whether tokens choose; without a choice there is one dense network and no exchange.
        """
        spec, tokens = self.layer, self.layer.tokens_per_device
        attention = tokens * (24 * spec.width**2 + 12 * spec.width * spec.sequence_length) / self.dense_flops.value
        products = (self.expert_flops if routed else self.dense_flops).value
        experts = rows * tokens * 48 * spec.width**2 / top_k / products
        seconds = layers * (self.layer_seconds.value + attention) + experts
        if devices == 1 or not routed:
            return seconds
        sent = 4 * rows * tokens * spec.width * spec.bytes_per_value
        near = min(devices, self.devices_per_node)
        inside = sent * (near - 1) / devices / self.link_inside.value
        between = sent * (devices - near) / devices / self.link_between.value
        return seconds + 4 * layers * self.exchange_seconds.value + max(inside, between)


def names() -> list[str]:
    """The machines that come with Equipoise."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find(name_or_path: str) -> Path:
    """The file of a machine: a shipped name, or a path ending in .yaml.

    Raises:
        ValueError: there is none.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if not path.is_file():
            raise ValueError(f"machine: no file {name_or_path!r}")
        return path
    if name_or_path not in names():
        raise ValueError(f"machine: {name_or_path!r} is unknown{nearest(name_or_path, names())}, or a .yaml file")
    return FOLDER / f"{name_or_path}.yaml"


def load(name_or_path: str = DEFAULT) -> Machine:
    """A machine from its file.

    Raises:
        ValueError: unknown name, broken YAML, unknown or missing key, impossible value; one line that names it.
    """
    path = find(name_or_path)
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping with the keys {', '.join(Machine.model_fields)}")
    try:
        return Machine.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{path}: {_explained(error)}") from None


def _explained(error: ValidationError) -> str:
    errors = error.errors()
    first = next((found for found in errors if found["type"] == "extra_forbidden"), errors[0])
    key = ".".join(str(part) for part in first["loc"]) or "(top level)"
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key{nearest(str(first['loc'][-1]), list(Machine.model_fields))}"
    shown = "" if first["type"] == "missing" else f" {first['input']!r}:"
    return f"{key}:{shown} {first['msg']}"
