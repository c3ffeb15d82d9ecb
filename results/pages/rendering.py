"""What all pages share: templates, number formats, the palette, and a policy that lets no request leave the page."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from results.claims.evaluate import WORDS as CLAIM_WORDS
from results.pages.statements import value
from results.plots import svg
from results.statistics.power import MIN_SEEDS
from results.text import counted, interval, number, percent

_TEMPLATES = Path(__file__).parent / "templates"
_ARXIV = re.compile(r"arxiv:\s*(\d{4}\.\d{4,5}(?:v\d+)?)", re.IGNORECASE)
_DOI = re.compile(r"doi:\s*(10\.\d{4,9}/[-._;()/:a-z0-9]+)", re.IGNORECASE)

_PARTS = ("helpers", "scales", "kinds", "figures", "board")  # of the script, in order

MARKS = {"better": "▼", "tie": "=", "baseline": "·", "undecided": "?", "indicative": "○", "worse": "▲"}  # best first
CLAIM_MARKS = {
    "reproduced": "✓",
    "not reproduced": "≠",
    "contradicted": "✗",
    "undecided": "?",
    "not testable here": "–",
}


def render(template: str, **context: Any) -> str:
    """One self-contained page: styles and script inline, everything a user wrote escaped."""
    code = script()
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    light, dark = svg.palette_css()
    shared = {
        "style": Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8")),
        "script": Markup(code),
        "script_digest": digest,
        "palette_light": Markup(light),
        "palette_dark": Markup(dark),
    }
    page = _environment().get_template(template).render(**shared, **context)
    return page.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate in a title must not lose the page


def script() -> str:
    """The parts of the script in one scope of its own."""
    parts = [(_TEMPLATES / f"{name}.js").read_text(encoding="utf-8") for name in _PARTS]
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"


def slug(text: str, taken: set[str] | None = None) -> str:
    """A name for ids, anchors and files: lower case, digits and hyphens; unique among `taken`, which it joins."""
    base = re.sub(r"[^a-z0-9]+", "-", str(text).lower()).strip("-")[:60] or "x"
    name, count = base, 2
    while taken is not None and name in taken:
        name, count = f"{base}-{count}", count + 1
    if taken is not None:
        taken.add(name)
    return name


def seeds_run(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many seeds the rows of a board rest on, and how many were planned: "10", "6 of 10", "6 to 9 of 10"."""
    planned = max(len(row["seeds"]) for row in rows)
    run = sorted({row["delta_loss"]["n"] for row in rows})
    if run == [planned]:
        return str(planned)
    return f"{run[0]} of {planned}" if len(run) == 1 else f"{run[0]} to {run[-1]} of {planned}"


def too_few(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every row of a board is short of seeds; where only some are, they say so themselves."""
    compared = [row["delta_loss"] for row in rows if row["delta_loss"]["verdict"] != "baseline"]
    return bool(compared) and all(delta["n"] < MIN_SEEDS for delta in compared)


def headline(task: Mapping[str, Any]) -> str:
    """A task's title, fit to stand over a section."""
    title = str(task.get("title") or task["name"])
    return title[:1].upper() + title[1:] if " " in title else title


def data_block(content: Any) -> Markup:
    """JSON that may stand in a <script> element: it cannot end the element, whatever strings it holds."""
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def citation_link(paper: Mapping[str, Any] | None) -> str | None:
    """Where a paper is, if its identifier is an arXiv number or a DOI; nothing else becomes a link."""
    identifier = str((paper or {}).get("identifier") or "")
    if match := _ARXIV.fullmatch(identifier.strip()):
        return f"https://arxiv.org/abs/{match[1]}"
    if match := _DOI.fullmatch(identifier.strip()):
        return f"https://doi.org/{match[1]}"
    return None


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "signed": signed,
        "relative": lambda value: "–" if value is None else f"{signed(100 * value, 1)} %",
        "saving": lambda value: f"{signed(100 * value, 1)} %" if value < 1 else f"{1 + value:.1f} ×",
        "sentence": lambda text: f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else "",
        "significant": lambda value, digits=4: "–" if value is None else f"{value:.{digits}g}".replace("-", "−"),
        "thousands": lambda value: "–" if value is None else f"{value:,.0f}",
        "pretty": lambda value: json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True),
        "p_value": _p_value,
        "plural": counted,
    }
    environment.globals |= {
        "marks": MARKS,
        "claim_marks": CLAIM_MARKS,
        "claim_words": CLAIM_WORDS,
        "interval": lambda *numbers: interval(*numbers).replace("-", "−"),
        "citation_link": citation_link,
        "data_block": data_block,
        "value_at": value,
    }
    return environment


def signed(value: float | None, digits: int = 4) -> str:
    if value is None:
        return "–"
    shown = f"{value:+.{digits}f}"
    return shown[1:] if float(shown) == 0 else shown.replace("-", "−")


def _p_value(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}".rstrip("0").rstrip(".")
