"""Base classes of rules that differ in a few lines: a learned router, a bias on the selection, a threshold."""
