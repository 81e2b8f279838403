"""Tokens after tokens: many sequences in one batch, each with its own mixture, that join and leave."""
