"""The names in a run directory of what the index is made from and checked against."""

CORPUS, ENCODING, INDEX = "corpus", "encoding", "index"
