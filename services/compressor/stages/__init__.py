"""The stages, one module each: what it rewrites, and why every value can be read back."""
