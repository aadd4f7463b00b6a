"""What the console costs."""
