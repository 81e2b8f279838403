"""Text as token ids: chat templates, and text from anywhere, in which no special token is live."""
