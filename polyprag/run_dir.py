"""The names in a run directory of what the index is made from and checked against."""

CORPUS, ENCODING, INDEX = "corpus", "encoding", "index"
REPLIES = "augment"  # what was written about passages beside the corpus's shards, and own pairs
