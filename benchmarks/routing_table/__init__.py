"""The parts of routing_table.py: its steps, a module for each system, and one case."""
