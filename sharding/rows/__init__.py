"""The routing table: a partition's rows as a file, and those in memory that are being trained."""
