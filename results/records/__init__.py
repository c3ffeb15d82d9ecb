"""Records of trials: read, checked, and gathered by arm and task."""

from results.records.reader import Outcome, Records, check_manifest, collect, load_manifest, load_record, nearest

__all__ = ["Outcome", "Records", "check_manifest", "collect", "load_manifest", "load_record", "nearest"]
