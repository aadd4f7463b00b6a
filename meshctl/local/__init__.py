"""A whole mesh on one machine: which processes, in which order, how they are watched and stopped."""
