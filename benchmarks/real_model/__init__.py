"""The parts of benchmarks/real_model.py: its corpora, and one LoRA for each passage."""
