"""Changing a corpus that is there: passages join it, and passages leave it."""
