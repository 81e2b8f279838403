"""Sequences are continued in one batch that each joins and leaves, with its own mixture."""
