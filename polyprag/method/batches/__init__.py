"""Physical batches: examples padded to one length, or packed into one row."""
