"""A partition at work: who writes about its passages, and what came and isn't in its shard."""
