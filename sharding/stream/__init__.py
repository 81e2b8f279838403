"""Who reads what, in which order and from where on: the exact, elastic stream of an epoch."""
