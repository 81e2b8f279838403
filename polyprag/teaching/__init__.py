"""The teacher: the base model with the passage in its prompt says how questions are answered."""
