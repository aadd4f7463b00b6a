"""Look-up by meaning: finds an answer to a question that means the same, within an error that the caller states."""
