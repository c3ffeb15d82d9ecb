"""The catalog: names of tasks, and the task behind a name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks import corpus as corpora
from tasks.errors import explain, nearest, unknown
from tasks.ladder import Rung, derive
from tasks.local import content_digest
from tasks.schedule import check_phases

PREPARATION = 1  # raise it when the same corpus and rung would give other tokens or other batches


class Task(BaseModel):
    """A corpus, a rung and its horizon: what every strategy is trained on."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    corpus: corpora.Corpus
    rung: Rung

    @property
    def heldout_tokens(self) -> int:
        """Tokens predicted in the held-out set, without opening the data."""
        if isinstance(self.corpus, corpora.RecallCorpus):
            return self.corpus.heldout_tokens
        return self.rung.eval_sequences * self.rung.sequence_length

    def resolved(self) -> dict[str, Any]:
        """Everything that can change a trial's numbers, as JSON can hold it.

        A local text is named by its path and by a digest of its content. `checkpoint_every` changes no number and
        is left out.
        """
        spec = self.corpus.model_dump(mode="json")
        if isinstance(self.corpus, corpora.TextCorpus):
            spec["content"] = content_digest(self.corpus)
        rung = self.rung.model_dump(mode="json", exclude={"checkpoint_every"})
        return {"name": self.name, "corpus": spec, "rung": rung, "preparation": PREPARATION}


@cache
def _read(file: str) -> dict[str, Any]:
    return yaml.safe_load(files("tasks").joinpath(file).read_text(encoding="utf-8"))


def names() -> list[str]:
    """Every task of the catalog, `<kind>-<rung>`, in the catalog's order."""
    return [f"{kind}-{rung}" for kind, entry in _read("catalog.yaml")["kinds"].items() for rung in entry["rungs"]]


def rungs() -> dict[str, Rung]:
    """The ladder."""
    return {name: derive(name, given) for name, given in _read("rungs.yaml").items()}


def recorded(content: Mapping[str, Any]) -> Task:
    """A task as a trial's record holds it, to be prepared again.

    Records are sorted by name, but a vocabulary depends on the order in which domains and sources are read: where the
    corpus is the catalogue's own, it is taken in the catalogue's order.
    """
    task = Task.model_validate(content)
    if task.name not in names():
        return task
    corpus = load(task.name).corpus
    return task.model_copy(update={"corpus": corpus}) if corpus == task.corpus else task


def load(
    name: str, overrides: Mapping[str, Any] | None = None, defaults: Callable[[int], Mapping[str, Any]] | None = None
) -> Task:
    """A task by name.

    Args:
        name: `<kind>-<rung>`, one of `names()`.
        overrides: dotted keys under `rung.` and `corpus.`; `corpus.kind` starts a corpus of that kind afresh.
        defaults: fields of the rung, given its number of experts per token, where neither it nor the kind states them.

    Raises:
        ValueError: an unknown name or key, a wrong type or sizes that do not go together, in one line.
    """
    catalog = _read("catalog.yaml")
    if name not in names():
        raise ValueError(f"task: {name!r} is not a task{nearest(name, names()) or '; equipoise list tasks names them'}")
    kind, rung_name = next(
        (k, r) for k, entry in catalog["kinds"].items() for r in entry["rungs"] if f"{k}-{r}" == name
    )
    entry = catalog["kinds"][kind]
    corpus = copy.deepcopy(catalog["corpora"][entry["corpus"]])
    stated: dict[str, Any] = {}
    own = entry.get("at", {}).get(rung_name, {})
    for key, value in own.items():
        if key.startswith("corpus."):
            corpus = _set(corpus, key, key.removeprefix("corpus."), value)
    for key, value in sorted((overrides or {}).items(), key=lambda item: item[0] != "corpus.kind"):
        head, _, rest = key.partition(".")
        if head == "rung" and rest:
            stated[rest] = value
        elif head == "corpus" and rest:
            corpus = _set(corpus, key, rest, value)
        else:
            raise ValueError(f"{key}: unknown key (value {value!r}); expected rung.… or corpus.…{_hint(key)}")
    task = Task(name=name, title=entry["title"], corpus=_corpus(corpus), rung=_rung(rung_name, entry, stated, defaults))
    least = task.corpus.least_vocabulary
    if task.rung.vocab_size < least:
        raise ValueError(
            f"rung.vocab_size: {task.rung.vocab_size} is impossible; expected at least {least} for this corpus"
        )
    return task


def _rung(
    name: str,
    entry: Mapping[str, Any],
    stated: Mapping[str, Any],
    defaults: Callable[[int], Mapping[str, Any]] | None,
) -> Rung:
    """The rung of a kind's task, with what the user stated."""
    at = {
        key.removeprefix("rung."): v for key, v in entry.get("at", {}).get(name, {}).items() if key.startswith("rung.")
    }
    given = {**_read("rungs.yaml")[name], **entry.get("set", {}), **at}
    if "horizon" in stated:
        given.pop("steps", None)
    given |= stated
    plain = derive(name, given)
    if defaults:
        given = {**defaults(plain.top_k), **given}
    for field, factor in entry.get("scale", {}).items():
        if field not in stated:
            value = getattr(plain, field)
            given[field] = max(1, round(value * factor)) if isinstance(value, int) else value * factor
    return derive(name, given)


def _hint(key: str) -> str:
    keys = [f"rung.{field}" for field in Rung.model_fields] + [f"corpus.{field}" for field in corpora.FIELDS]
    return nearest(f"rung.{key}", keys)


def _set(tree: dict[str, Any], key: str, path: str, value: Any) -> dict[str, Any]:
    """The tree with one value set, a changed kind starting afresh."""
    if path == "kind" and value != tree["kind"]:
        if not isinstance(value, str) or value not in corpora.KINDS:
            raise unknown(key, value, "a kind of corpus", corpora.KINDS)
        return {"kind": value}
    *folders, leaf = path.split(".")
    node: Any = tree
    for folder in folders:
        node = node.setdefault(folder, {}) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        raise ValueError(f"{key}: unknown key (value {value!r}); there is nothing under {'.'.join(folders)}")
    node[leaf] = value
    return tree


def _corpus(spec: dict[str, Any]) -> corpora.Corpus:
    try:
        corpus = corpora.ADAPTER.validate_python(spec)
    except ValidationError as error:
        raise explain(error, "corpus", corpora.FIELDS, tags=corpora.KINDS) from None
    if not isinstance(
        corpus, corpora.TextCorpus | corpora.RecallCorpus
    ):  # a local text's domains are known once its folder is read
        domains = zipf_domains(corpus.domains) if isinstance(corpus, corpora.ZipfCorpus) else list(corpus.domains)
        check_phases(corpus.phases, domains)
    return corpus


def zipf_domains(count: int) -> list[str]:
    """Names of a synthetic source's domains."""
    return [f"domain-{index}" for index in range(count)]
