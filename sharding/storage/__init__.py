"""Files wherever they lie: on this machine, or behind any fsspec URL."""
