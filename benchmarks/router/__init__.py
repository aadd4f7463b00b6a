"""What the router costs: time and memory in front of an engine that answers at once."""
