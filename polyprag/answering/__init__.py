"""Questions to answers: retrieve, mix, generate."""
