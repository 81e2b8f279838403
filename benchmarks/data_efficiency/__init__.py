"""The parts of benchmarks/data_efficiency.py: its passages and questions, our side, PRAG's."""
