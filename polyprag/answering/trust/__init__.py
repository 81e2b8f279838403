"""Whether to trust an answer: what speaks for it, and the rule that it is held to."""
