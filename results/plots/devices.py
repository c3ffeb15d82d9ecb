"""What the recorded loads would cost with the experts spread over devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from results.plots.lines import draw_lines
from results.plots.style import ArmStyle, themed


@themed
def step_time(
    devices: Sequence[int], relative: Mapping[str, Sequence[float]], styles: Mapping[str, ArmStyle], reference: str
) -> Figure:
    """Simulated step time of expert parallelism over that of perfectly balanced loads, against the number of devices.

    Args:
        devices: (G,), number of devices.
        relative: arm → (G,), step time / balanced step time.
    """
    most = max(value for values in relative.values() for value in values)
    shown = devices[:: 1 + len(devices) // 6]
    ylim = (1 - 0.04 * (most - 1), most + 0.06 * (most - 1) + 1e-3)
    return draw_lines(devices, relative, styles, reference, ("devices", "step time (balanced = 1)"), ylim,
                      log_x=True, ticks=shown)  # fmt: skip
