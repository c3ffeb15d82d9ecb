"""Between which cells rankings are compared: pairs of boards or tasks that differ in one thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from results.recommend.evidence import Board, Cell, cells, current
from results.recommend.needs import TRACKS
from results.recommend.travel import FEWEST_ARMS, agreement

DIMENSIONS = {
    "recipe": "from one optimizer to the other",
    "track": "from published to tuned values",
    "horizon": "from short training to longer",
    "experts": "from few experts to many",
    "size": "from a smaller model to a larger",
    "task": "from one task to another",
}


def rankings(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """How the order of strategies travels, per pair of cells that differ in one thing.

    Returns:
        per pair `dimension`, `first` and `second` (BOARD/TASK), `labels` (what differs) and the fields of an
        `Agreement`; for a dimension without a pair one entry with `word` "no evidence".
    """
    newest, _ = current(boards)
    paying: list[Cell] = []
    for cell in sorted((cell for cell in cells(newest) if cell.experts_pay), key=lambda c: TRACKS.index(c.board.track)):
        if not any(_losses(cell) == _losses(other) for other in paying if other.name == cell.name):
            paying.append(cell)  # a track that chose what another chose has the same trials: one ranking, not two
    found: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []
    places: set[tuple[str, ...]] = set()
    for dimension, first, second in sorted(_pairs(paying), key=_fullest_first):
        one, other = _losses(first), _losses(second)
        agreed, both = agreement(one, other), _both(first, second)
        place = (dimension, first.name, second.name, first.recipe, first.board.track)
        again = first.kind != second.kind and first.board.folder != second.board.folder and place in places
        if agreed is not None and not again and not any(_within(both, known) for known in told):
            told.append(both)
            places.add(place)
            found.append(
                {
                    "dimension": dimension,
                    "first": first.key,
                    "second": second.key,
                    "labels": [label(first, dimension), label(second, dimension)],
                    **asdict(agreed),
                    "open": agreed.open,
                }
            )
    for dimension, words in DIMENSIONS.items():
        if not any(entry["dimension"] == dimension for entry in found):
            why = f"no two boards or tasks on which experts pay differ in this alone and share {FEWEST_ARMS} strategies"
            found.append({"dimension": dimension, "word": "no evidence", "words": f"{words}: {why}"})
    order = list(DIMENSIONS)
    return sorted(found, key=lambda entry: order.index(entry["dimension"]))


def label(cell: Cell, dimension: str) -> str:
    """What a cell is called where it is compared with one that differs from it in `dimension`."""
    place = f"{cell.name} of {cell.board.folder}"
    return {
        "recipe": f"{cell.recipe or 'no recipe named'} ({place})",
        "track": f"{cell.board.track.replace('-', ' ')} ({place})",
        "horizon": f"{cell.steps:,} steps ({place})",
        "experts": f"{cell.experts} experts ({place})",
        "size": f"{place} ({cell.board.content.get('hardware') or 'no hardware named'})",
        "task": place,
    }[dimension]


def _pairs(found: Sequence[Cell]) -> Iterator[tuple[str, Cell, Cell]]:
    order = sorted(found, key=lambda cell: (cell.size, TRACKS.index(cell.board.track), cell.key))
    for first, second in combinations(order, 2):
        dimension = differs_in(first, second)
        if dimension:
            yield dimension, first, second


def differs_in(first: Cell, second: Cell) -> str | None:
    """The one thing two cells differ in; None for several or for nothing.

    Experts, horizon and recipe may follow from the model's size, and so may the hardware, with its precision. Tasks of
    different kinds that train on the same corpus may differ in experts or horizon alone; on another corpus they are
    compared within a board only.
    """
    kind, rung = first.kind != second.kind, first.task.get("rung") != second.task.get("rung")
    if rung:
        same = not kind and first.board.track == second.board.track and first.recipe == second.recipe
        return "size" if same else None
    if first.board.content.get("hardware") != second.board.content.get("hardware"):
        return None
    differing = [
        name
        for name, one, other in (
            ("recipe", first.recipe, second.recipe),
            ("track", first.board.track, second.board.track),
            ("horizon", first.tokens, second.tokens),
            ("experts", first.experts, second.experts),
        )
        if one != other
    ]
    alone = differing[0] if len(differing) == 1 and first.corpus == second.corpus else None
    if not kind or alone in ("horizon", "experts"):
        return alone
    return "task" if first.board.folder == second.board.folder else None


def _fullest_first(pair: tuple[str, Cell, Cell]) -> tuple[int, bool]:
    """The more arms two cells share the earlier; then the cells of one board."""
    _, first, second = pair
    return -len(_both(first, second)), first.board.folder != second.board.folder


def _both(first: Cell, second: Cell) -> dict[str, tuple[dict[int, float], dict[int, float]]]:
    """The losses of each arm that two cells share, in the one and in the other."""
    one, other = _losses(first), _losses(second)
    return {arm: (one[arm], other[arm]) for arm in one.keys() & other.keys()}


def _within(both: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Whether all of its trials are among those of another: fewer arms or seeds of the same say nothing more."""
    return all(
        arm in known and all(mine.items() <= theirs.items() for mine, theirs in zip(own, known[arm], strict=True))
        for arm, own in both.items()
    )


def _losses(cell: Cell) -> dict[str, dict[int, float]]:
    return {row.arm: row.losses for row in cell.rows if not row.content["diverged"]}
