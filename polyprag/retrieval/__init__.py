"""The index of a run: BM25 and dense retrieval with each passage's routing row at hand."""
