"""Parts of benchmarks/answering.py."""
