"""Looking for damage in a corpus, and mending what follows from the rest."""
