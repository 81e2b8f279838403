"""Poly-PRAG: parametric retrieval-augmented generation with latent routing (arXiv 2511.17044)."""

__version__ = "0.1.0"
