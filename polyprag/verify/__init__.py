"""Everything that can be wrong with a run directory."""
