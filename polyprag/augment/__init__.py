"""Rewrites and question-answer pairs for every passage of a corpus."""
