"""Polyprag commands as Ray jobs."""
