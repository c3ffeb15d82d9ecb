"""Published claims and what the records say about them: one YAML file each in `ledger/`."""

from results.claims.evaluate import WORDS, evaluate
from results.claims.ledger import Claim, get, load, load_all, suite
from results.claims.report import claims_markdown

__all__ = ["WORDS", "Claim", "claims_markdown", "evaluate", "get", "load", "load_all", "suite"]
