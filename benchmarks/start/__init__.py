"""How long a mesh takes to start."""
