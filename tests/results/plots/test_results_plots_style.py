"""How figures look and leave: colours everybody can tell apart, labels that keep their distance, themed SVG."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from synthetic_records import Arm, make_manifest

from results.plots import curves, looks, svg
from results.plots.style import DARK, HUES, INK, MUTED, ArmStyle, arm_styles, short, spread
from strategies import registry

LIGHT_PAGE, DARK_PAGE = "#fdfdfc", "#14171b"

# ---------------------------------------------------------------- colours

# Machado, Oliveira and Fernandes, A Physiologically-based Model for Simulation of Color Vision Deficiency, 2009.
EYES = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color: str) -> np.ndarray:
    channels = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB under D65."""
    ratio = XYZ @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio."""
    low, high = sorted(float(XYZ[1] @ linear(color)) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("palette", [(INK, *HUES), tuple(DARK[c] for c in (INK, *HUES))], ids=["light", "dark"])
def test_colours_stay_apart_for_everybody(eyes: str, palette: tuple[str, ...]) -> None:
    seen = {color: lab(np.array(EYES[eyes]) @ linear(color)) for color in palette}
    apart = {pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]])) for pair in itertools.combinations(palette, 2)}
    closest = min(apart, key=apart.__getitem__)
    assert apart[closest] >= 18, (closest, apart[closest])


def test_colours_stand_out_from_the_page() -> None:
    assert min(contrast(color, LIGHT_PAGE) for color in HUES) >= 3
    assert min(contrast(DARK[color], DARK_PAGE) for color in HUES) >= 3
    for text in (INK, MUTED):  # text: 4.5 to 1
        assert contrast(text, LIGHT_PAGE) >= 4.5
        assert contrast(DARK[text], DARK_PAGE) >= 4.5


def test_each_arm_has_one_look_of_its_own() -> None:
    arms = [Arm("base", "Base"), *(Arm(f"a{i}", f"Arm {i}") for i in range(28))]
    styles = arm_styles(make_manifest(arms, baseline="base"))
    looks = {(s.color, str(s.dash), s.marker) for s in styles.values()}
    assert len(looks) == len(styles) == 30
    assert (styles["base-aa"].color, styles["base-aa"].marker) == (MUTED, "x")
    assert arm_styles(make_manifest(arms, baseline="base")) == styles


def test_a_strategy_looks_the_same_on_every_board() -> None:
    one = arm_styles(make_manifest([Arm("aux_loss", "Aux"), Arm("smebu", "S"), Arm("mine", "M")], baseline="aux_loss"))
    two = arm_styles(make_manifest([Arm(f"other{i}", "") for i in range(3)] + [Arm("mine", "M"), Arm("smebu", "S")]
                                   + [Arm("aux_loss", "Aux")], baseline="smebu"))  # fmt: skip
    for arm in ("aux_loss", "smebu"):
        assert (one[arm].color, one[arm].marker, one[arm].dash) == (two[arm].color, two[arm].marker, two[arm].dash)
    alone = arm_styles(make_manifest([Arm("mine", "M")], baseline="mine"))["mine"]
    assert (one["mine"].color, one["mine"].marker) == (alone.color, alone.marker)
    assert one["aux_loss"].color == INK


def test_arms_of_one_strategy_share_its_colour_and_differ_in_their_dashes() -> None:
    arms = [Arm(f"smebu-{rate}", "S", strategy="smebu", config={"rate": rate}) for rate in range(5)]
    styles = list(arm_styles(make_manifest(arms, baseline="smebu-0", aa=False)).values())
    assert len({(style.color, style.marker) for style in styles}) == 1
    assert len({str(style.dash) for style in styles}) == 5


def test_listed_strategies_exist_and_none_looks_like_another() -> None:
    assert set(looks.KNOWN) <= set(registry.available())
    assert len(set(looks.KNOWN.values())) == len(looks.KNOWN)
    assert all(-1 <= hue < len(HUES) and 0 <= mark < looks.MARKS for hue, mark in looks.KNOWN.values())
    assert looks.look("a plug-in") not in looks.KNOWN.values()


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Plain", "Plain"),
        ("two\nlines \t here", "two lines here"),
        ("x" * 40, "x" * 25 + "…"),
        ("bell\x07 \ud800end", "bell end"),
    ],
)
def test_titles_fit_beside_a_line(title: str, shown: str) -> None:
    assert short(title) == shown


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("wanted", "placed"),
    [([0.5], [0.5]), ([0.2, 0.8], [0.2, 0.8]), ([0.5, 0.5], [0.4, 0.6]), ([0.0, 0.0, 0.5], [0.0, 0.2, 0.5]),
     ([0.9, 1.0], [0.8, 1.0]), ([1.0, 0.9], [1.0, 0.8]), ([0.5] * 11, [i / 10 for i in range(11)])],
)  # fmt: skip
def test_labels_are_moved_apart_by_hand_checked_amounts(wanted: list[float], placed: list[float]) -> None:
    assert spread(wanted, 0.2, 0.0, 1.0) == pytest.approx(placed)


def test_labels_move_as_little_as_a_general_optimiser_would_move_them() -> None:
    wanted = np.sort(np.random.default_rng(3).uniform(0, 1, 7))
    gap = 0.12
    apart = [{"type": "ineq", "fun": lambda y, i=i: y[i + 1] - y[i] - gap} for i in range(6)]
    best = minimize(
        lambda y: ((y - wanted) ** 2).sum(), np.linspace(0, 1, 7), bounds=[(0, 1)] * 7, constraints=apart, tol=1e-12
    )
    assert spread(wanted, gap, 0, 1) == pytest.approx(best.x, abs=1e-4)


# ---------------------------------------------------------------- export


@pytest.fixture
def styles() -> dict[str, ArmStyle]:
    return arm_styles(make_manifest())


def evaluations(*arms: str) -> pd.DataFrame:
    rows = [(arm, seed, False, step, 9 * step, 5.0 / step) for arm in arms for seed in (0, 1) for step in (5, 10, 20)]
    return pd.DataFrame(rows, columns=["arm", "seed", "diverged", "step", "tokens", "val_loss"])


def tags(text: str) -> str:
    return "".join(re.findall(r"<[^>]+>", text))


def test_svg_keeps_text_and_swaps_every_colour_for_a_variable() -> None:
    title = "0.00049 #2c4fbf $x_1$ <b>"
    manifest = make_manifest([Arm("penalty", "Penalty"), Arm("odd", title)])
    drawn = svg.inline(curves.loss_against_tokens(evaluations("penalty", "odd"), arm_styles(manifest), "penalty"),
                       "one", "A <title>", "says & does")  # fmt: skip
    root = ElementTree.fromstring(drawn)
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert short(title) in texts
    assert [root[0].text, root[1].text] == ["A <title>", "says & does"]
    assert re.findall("#[0-9a-f]{6}", tags(drawn)) == []
    assert "font-family:" not in tags(drawn)
    used = set(re.findall(r"var\((--[\w-]+)\)", drawn))
    assert used <= set(svg.VARIABLES.values())
    assert {"--ink", "--muted", "--grid"} < used
    alone = svg.standalone(drawn)
    assert float(ElementTree.fromstring(alone.split("\n", 1)[1]).attrib["width"]) == pytest.approx(4.4 * 96)
    assert "prefers-color-scheme: dark" in alone
    assert all(f"{name}:" in alone for name in used)


def test_ids_differ_between_figures_and_drawings_are_reproducible(styles: dict[str, ArmStyle]) -> None:
    def draw(name: str) -> str:
        return svg.inline(curves.loss_against_tokens(evaluations("penalty", "bias"), styles, "penalty"), name, "", "")

    ids = [set(re.findall(r' id="([^"]+)"', draw(name))) for name in ("one", "two")]
    assert ids[0]
    assert not ids[0] & ids[1]
    referenced = set(re.findall(r'(?:url\(|href=")#([\w-]+)', draw("one")))
    assert referenced <= ids[0]
    assert draw("one") == draw("one")


def test_arms_can_be_found_in_the_drawing(styles: dict[str, ArmStyle]) -> None:
    drawn = svg.inline(curves.loss_against_tokens(evaluations("penalty", "bias"), styles, "penalty"), "x", "", "")
    assert len(re.findall(f'class="{styles["bias"].gid}"', drawn)) == 4  # band, line, leader, label
