"""Joint training, from a checkpoint to the encoding."""
