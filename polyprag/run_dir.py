"""The names in a run directory of what the index is made from and checked against."""

CORPUS, ENCODING, INDEX = "corpus", "encoding", "index"
REPLIES = "augment"  # what was written about passages and isn't in the corpus's shards yet
