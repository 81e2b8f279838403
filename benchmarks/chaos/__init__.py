"""The parts of chaos.py: a cluster, what happens to it, and what must hold after."""
