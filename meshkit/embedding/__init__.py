"""Texts and words as vectors, for every service that compares meanings; needs the extra `semantic`."""
