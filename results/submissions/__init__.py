"""Results from strangers: an archive that can be checked without running anything that is in it, and joins a board."""
