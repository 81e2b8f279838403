"""Which fields of a source row are id, title and text, and the passages that a row holds."""
