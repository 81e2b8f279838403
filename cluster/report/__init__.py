"""What can be said of a run, as text for people."""
