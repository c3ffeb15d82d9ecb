"""Records of trials: read, checked, and gathered by arm and task."""

from results.records.reader import (
    Outcome,
    Records,
    beside,
    check_manifest,
    collect,
    load_manifest,
    load_record,
    nearest,
    ranked_arms,
)

__all__ = ["Outcome", "Records", "beside", "check_manifest", "collect", "load_manifest", "load_record", "nearest"]
__all__ += ["ranked_arms"]
