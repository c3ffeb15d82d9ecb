"""What the recorded loads would cost with the experts spread over devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from results.plots.style import NARROW, ArmStyle, calm_ticks, canvas, compact, label_lines, label_width, themed


@themed
def step_time(
    devices: Sequence[int], relative: Mapping[str, Sequence[float]], styles: Mapping[str, ArmStyle]
) -> Figure:
    """Simulated step time of expert parallelism over that of perfectly balanced loads, against the number of devices.

    Args:
        devices: (G,), number of devices.
        relative: arm → (G,), step time / balanced step time.
    """
    arms = [arm for arm in styles if arm in relative]
    right = 0.2 + label_width([styles[arm].title for arm in arms])
    figure, ax = canvas(NARROW, max(3.1, 0.6 + 0.145 * len(arms)), left=0.5, right=right)
    for arm in arms:
        ax.plot(devices, relative[arm], marker=styles[arm].marker, **styles[arm].line)
    ax.set(xlabel="devices", ylabel="step time (balanced = 1)", xscale="log")
    calm_ticks(ax)
    ax.set_xticks(list(devices), [compact(count) for count in devices])
    ax.set_xticks([], minor=True)
    ax.set_ylim(bottom=min(1.0, ax.get_ylim()[0]))
    label_lines(ax, [(styles[arm], devices[-1], relative[arm][-1]) for arm in arms])
    return figure
