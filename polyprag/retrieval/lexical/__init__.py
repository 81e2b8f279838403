"""BM25: texts to terms, terms to finished scores, and their search."""
