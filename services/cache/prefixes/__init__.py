"""Which engine holds the beginning of a prompt."""
