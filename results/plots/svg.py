"""A matplotlib figure as SVG whose colours are CSS variables: one drawing for light and dark, inline or on its own."""

from __future__ import annotations

import hashlib
import io
import re
import warnings

import matplotlib as mpl
from markupsafe import escape
from matplotlib.figure import Figure

from results.plots.style import BAND, DARK, GRID, HUES, INK, MUTED

VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", BAND: "--band"} | {
    color: f"--hue-{i}" for i, color in enumerate(HUES)
}
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
_TAG = re.compile(r"<[^>]+>")
_COORDINATES = re.compile(r' (?:d|x|y|cx|cy|x1|x2|y1|y2)="[^"]*"')
_NUMBER = re.compile(r"-?\d+\.\d{2,}(?:e-?\d+)?")
_ARM = re.compile(r'id="(arm-\d+)"')


def palette_css() -> tuple[str, str]:
    """The declarations of every figure colour, for the light and for the dark theme."""
    light = " ".join(f"{name}: {color};" for color, name in VARIABLES.items())
    dark = " ".join(f"{name}: {DARK[color]};" for color, name in VARIABLES.items())
    return light, dark


def variable(color: str) -> str:
    """The CSS value that stands for a figure colour."""
    return f"var({VARIABLES[color]})"


def inline(figure: Figure, name: str, title: str, description: str) -> str:
    """`figure` as an `<svg>` element for a page that declares the palette.

    Args:
        name: unique in the page; every id inside starts with it.
        title, description: the text alternative, escaped here.
    """
    body = _render(figure, name)
    head = (
        f'<svg role="img" aria-labelledby="{name}-t {name}-d" class="plot" font-family="{_FONT}" '
        f'viewBox="0 0 {figure.get_figwidth() * 72:g} {figure.get_figheight() * 72:g}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    words = f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
    return head + words + body


def standalone(svg: str, width: float) -> str:
    """An inline `svg` as a file of its own that follows the reader's colour scheme."""
    light, dark = palette_css()
    style = f"<style>:root {{ {light} }} @media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}</style>"
    svg = svg.replace("<svg ", f'<svg width="{width * 96:g}" ', 1)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg.replace("<title", style + "<title", 1)}\n'


def _render(figure: Figure, name: str) -> str:
    salt = hashlib.sha256(name.encode()).hexdigest()[:8]
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has fonts that matplotlib has not
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = text[text.index(">") + 1 :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    return _slim(text, name)


def _slim(text: str, name: str) -> str:
    """Only tags are touched: a strategy's title may well contain numbers, colours or ids of its own."""
    referenced = set(re.findall(r'(?:url\(|href=")#([\w-]+)', "".join(_TAG.findall(text))))

    def tag(match: re.Match[str]) -> str:
        part = _ARM.sub(r'class="\1"', match[0])
        part = re.sub(r' id="([\w-]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in referenced else "", part)
        part = re.sub(r'(url\(|href=")#([\w-]+)', rf"\g<1>#{name}-\2", part)
        part = re.sub(r"font: ((?:[a-z0-9]+ )*)([\d.]+)px [^;\"]*", _font, part)
        for color in VARIABLES:
            part = part.replace(color, variable(color))
        part = _COORDINATES.sub(lambda m: _NUMBER.sub(_rounded, m[0]), part)
        return re.sub(r"\s+", " ", part)

    return re.sub(r">\s+<", "><", _TAG.sub(tag, text))


def _font(match: re.Match[str]) -> str:
    weight = "font-weight: bold; " if "bold" in match[1] or "700" in match[1] else ""
    return f"{weight}font-size: {match[2]}px"


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match[0]):.1f}".rstrip("0").rstrip(".")
