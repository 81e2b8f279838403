"""Where the steps' metrics go besides the run's own file: one small interface, a file a place."""
