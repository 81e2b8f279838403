"""Question-answer pairs that somebody else wrote: read, and matched to the corpus's passages."""
