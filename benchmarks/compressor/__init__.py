"""What compression saves, and what it costs."""
