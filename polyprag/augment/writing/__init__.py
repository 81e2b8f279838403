"""What is asked of a model about a passage, and what is kept of its replies."""
