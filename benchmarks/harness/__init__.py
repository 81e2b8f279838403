"""What several benchmarks share: their options, goals, tables, JSON and processes."""
