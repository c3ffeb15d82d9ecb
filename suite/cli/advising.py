"""`equipoise recommend`: which strategy for what, from published boards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from suite.cli.options import json_option, print_json

if TYPE_CHECKING:
    from results.recommend.needs import Need


@click.command()
@click.option("--need", "names", multiple=True, metavar="NAME", help="Only this need; --need list names them all.")
@click.option(
    "--devices", type=click.IntRange(1), help="Compare at equal time on so many devices, not at equal tokens."
)
@click.option("--experts", type=click.IntRange(2), metavar="N", help="Only boards of models with N experts a layer.")
@click.option("--causal", is_flag=True, help="Only strategies that a decoder can use as they were trained.")
@click.option("--learned", is_flag=True, help="Only routers that go on learning: no fixed tables of tokens.")
@click.option("--no-knob", "knobless", is_flag=True, help="Only strategies with nothing to tune.")
@click.option("--recipe", metavar="NAME", help="Only models trained with this recipe: muon, adamw.")
@click.option("--kind", metavar="KIND", help="Only this kind of task: text, text-shift, recall, …")
@click.option(
    "--track",
    "tracks",
    multiple=True,
    type=click.Choice(["as-published", "tuned", "balanced"]),
    help="Where a strategy's knob comes from (default: as published, and balanced or else tuned).",
)
@click.option(
    "--published",
    metavar="DIR",
    type=click.Path(file_okay=False, exists=True),
    help="Published boards (default: results/published of the source tree).",
)
@click.option("--full", is_flag=True, help="With intervals, seeds and all boards: what one need shows, for every need.")
@click.option(
    "--renew",
    is_flag=True,
    help="Also write the answers to DIR's pages and between their markers in ../../README.md.",
)
@json_option
def recommend(
    names: tuple[str, ...],
    devices: int | None,
    experts: int | None,
    causal: bool,
    learned: bool,
    knobless: bool,
    recipe: str | None,
    kind: str | None,
    tracks: tuple[str, ...],
    published: str | None,
    full: bool,
    renew: bool,
    as_json: bool,
) -> None:
    """Which strategy should be used? Answers from published boards, each with the rows it rests on.

    \b
      equipoise recommend                            every need, at a glance
      equipoise recommend --need loss                one of them, with intervals and all boards
      equipoise recommend --devices 64 --learned     a need of your own
      equipoise recommend --experts 256 --track tuned
      equipoise recommend --need facts --json        with the keys of all rows, as `equipoise reproduce` takes them

    A need is answered by a confidence set: a strategy is named unless some other is shown to have the lower loss, so
    that the best is named with 95 %. The others follow with how far they are behind. Only boards of the newest
    protocol count, and of them only tasks on which experts gain at least 0.15 nats/token over the dense twin; where
    there is none, the answer is "no evidence", and what is missing.

    The tracks never mix. "balanced" takes each knob's value with the lowest loss among those whose MaxVio stays under
    1, and answers only with strategies that are so balanced on the board itself.
    """
    from results.recommend import evidence, glance, wording
    from results.recommend.advise import advice
    from results.recommend.foretelling import foretelling, in_short
    from results.recommend.needs import NEEDS, get
    from results.recommend.rankings import rankings
    from suite.running.reproduce import published_folder

    if "list" in names:
        for need in NEEDS:
            click.echo(f"{need.name:<10} {need.question}")
        return
    folder = Path(published) if published else published_folder()
    own = _own(devices, experts, causal, learned, knobless, recipe, kind)
    asked = [own] if own else [get(name) for name in names] or list(NEEDS)
    if own and names:
        raise ValueError(
            "--need: names a need that is there already; expected it alone, without conditions of your own"
        )
    boards = evidence.load(folder)
    answers = advice(boards, tracks, asked)
    whole = not names and not own
    ranked = rankings(boards) if whole else []
    foretold = foretelling(boards) if whole else []
    if renew:
        renewed(folder)
    if as_json:
        print_json({"answers": answers, **({"rankings": ranked, "foretelling": foretold} if whole else {})})
    elif whole and not full:
        parts = [glance.as_text(answers), glance.travel_in_short(ranked), in_short(foretold)]
        click.echo("\n\n".join([*filter(None, parts), "With intervals and all boards: --full."]))
    else:
        click.echo(wording.as_text(answers, ranked, foretold))


def renewed(published: Path) -> None:
    """Write the pages over all published boards, and the recommendation into the project's README above them."""
    from results.pages import recommendation, site
    from results.recommend.block import START

    click.echo(f"written: {site.write_index(published)}", err=True)
    readme = published.resolve().parent.parent / "README.md"
    if readme.is_file() and START in readme.read_text(encoding="utf-8"):
        recommendation.renew_readme(published, readme)
        click.echo(f"written: {readme}", err=True)


def _own(
    devices: int | None,
    experts: int | None,
    causal: bool,
    learned: bool,
    knobless: bool,
    recipe: str | None,
    kind: str | None,
) -> Need | None:
    """The need that the options describe; None where they describe none."""
    from results.recommend.needs import EXPERTS, SPARSE, TEXT, Need

    said: list[str] = []
    said += [f"at equal time on {devices} devices"] if devices and devices > 1 else []
    said += [f"with {experts} experts"] if experts else []
    said += ["routed as it was trained"] if causal else []
    said += ["by a router that goes on learning"] if learned else []
    said += ["with nothing to tune"] if knobless else []
    said += [f"trained with {recipe}"] if recipe else []
    said += [f"on {kind}"] if kind else []
    if not said and devices is None:
        return None
    kinds = (kind,) if kind else (*TEXT, *SPARSE, f"{EXPERTS}{experts}") if experts else TEXT
    words = ", ".join(["the lowest loss", *said])
    return Need("yours", words, kinds, devices or 1, causal, knobless, recipe, experts, learned)
