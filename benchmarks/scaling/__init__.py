"""The parts of scaling.py: measured steps, a model of them, a dry run, and their tables."""
