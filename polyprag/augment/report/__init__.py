"""What a corpus's augmentation covers, measured and told."""
