"""What a server answers, a file for each kind."""
