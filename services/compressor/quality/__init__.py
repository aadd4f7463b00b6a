"""The predicted chance that a reader answers as it would have answered the original."""
