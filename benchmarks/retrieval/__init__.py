"""The parts of retrieval.py and retrieval_text.py: vectors, question sets, rivals, cases."""
