"""Building an index: its segments, and their parts as tasks for any workers."""
