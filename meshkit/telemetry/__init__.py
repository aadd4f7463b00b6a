"""What is told to the people who run the mesh: names, logs, traces, metrics. Never prompt text, never secrets."""
