"""The sides of train_step.py."""
