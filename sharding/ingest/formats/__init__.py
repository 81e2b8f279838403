"""The formats of corpus files, one a file."""
