"""Training state on disk: written, read, changed and asked for."""
