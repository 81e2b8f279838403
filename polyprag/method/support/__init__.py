"""Whether a model can carry experts, and how much of it does."""
