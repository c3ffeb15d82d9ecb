"""Tasks: corpora, tokenizers, the scale ladder and synthetic sources. Knows no strategy and no model."""

from tasks.catalog import Task, load, names, recorded, rungs
from tasks.errors import CorpusError
from tasks.ladder import Rung
from tasks.preparation import prepare
from tasks.source import Source, open_source

__all__ = ["CorpusError", "Rung", "Source", "Task", "load", "names", "open_source", "prepare", "recorded", "rungs"]
