"""Measured claims, one package a capability: `python -m benchmarks.<name> --json FILE [--only CLAIM,...] [--smoke]`."""
