"""The operator's command line: starts, watches and asks a mesh."""
