"""Embeddings and the FAISS indexes over them."""
