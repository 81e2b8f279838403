"""Texts to vectors: every encoder, and which of them an index has."""
