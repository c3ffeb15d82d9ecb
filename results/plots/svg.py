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
_FAMILY = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
_TAG = re.compile(r"<[^>]+>")
_NOISE = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", re.S)
_ARM = re.compile(r'id="(arm-\d+)"')
_ID = re.compile(r' id="([^"]+)"')
_REFERENCE = re.compile(r'(url\(|href=")#([\w-]+)')
_FONT = re.compile(r"font: (?:[a-z0-9]+ )*([\d.]+)px [^;\"]*")
_FONTS = re.compile(r"(?<=[; ])font-family: [^;\"]*; ")
_STYLE = re.compile(r'style="[^"]*"')
_COORDINATES = re.compile(r' (?:d|x|y)="[^"]*"')
_COMMAND = re.compile(r"\s*([MLCQz])\s*")
_NUMBER = re.compile(r"-?\d+\.\d{2,}(?:e-?\d+)?")


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
        f'<svg role="img" aria-labelledby="{name}-t {name}-d" class="plot" font-family="{_FAMILY}" '
        'stroke-linejoin="round" '
        f'viewBox="0 0 {figure.get_figwidth() * 72:g} {figure.get_figheight() * 72:g}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    words = f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
    return head + words + body


def standalone(svg: str) -> str:
    """An inline `svg` as a file of its own that follows the reader's colour scheme."""
    light, dark = palette_css()
    style = (
        f"<style>:root {{ {light} }} @media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }} "
        "image { image-rendering: pixelated }</style>"
    )
    width, height = (float(size) * 96 / 72 for size in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
    svg = svg.replace("<svg ", f'<svg width="{width:g}" height="{height:g}" ', 1).replace("<title", style + "<title", 1)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg}\n'


def _render(figure: Figure, name: str) -> str:
    """Everything inside the `<svg>` element."""
    salt = hashlib.sha256(name.encode()).hexdigest()[:8]
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has fonts that matplotlib has not
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = _NOISE.sub("", buffer.getvalue())
    return _slim(text[text.index(">", text.index("<svg")) + 1 :], name)


def _slim(text: str, name: str) -> str:
    """Rename ids, swap colours for variables, shorten. Only tags are touched: a title may hold a number or a colour."""
    referenced = set(re.findall(r'(?:url\(|href=")#([\w-]+)', "".join(_TAG.findall(text))))

    def tag(match: re.Match[str]) -> str:
        part = _ARM.sub(r'class="\1"', match[0])
        part = _ID.sub(lambda m: f' id="{name}-{m[1]}"' if m[1] in referenced else "", part)
        part = _REFERENCE.sub(rf"\g<1>#{name}-\2", part)
        part = _FONTS.sub("", _FONT.sub(r"font-size: \1px", part))
        for color, words in VARIABLES.items():
            part = part.replace(color, f"var({words})")
        part = _COORDINATES.sub(lambda m: _NUMBER.sub(_rounded, _COMMAND.sub(r"\1", m[0])), part)
        return _STYLE.sub(lambda m: m[0].replace("; ", ";").replace(": ", ":"), " ".join(part.split()))

    return re.sub(r">\s+<", "><", _TAG.sub(tag, text))


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match[0]):.1f}".rstrip("0").rstrip(".")
