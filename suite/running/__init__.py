"""Trials at work: who runs which, in which process, what is shown of it, and what the tracking server is told."""
