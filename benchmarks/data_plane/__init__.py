"""The parts of data_plane.py: its corpus, a module for each system, and one measurement."""
