"""What the engine does with a model: time to ready, tokens per second."""
