"""A run behind HTTP: OpenAI's interface, each request with its own mixture, and a page to ask."""
