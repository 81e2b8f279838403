"""Questions about any English prose, by rules: what a sentence says is turned around and asked."""
