"""What a look-up in the response cache costs."""
