"""Scores of a run on question files, and how they are shown."""
