"""The prompt compressor: fewer tokens for the same content, with an account of what each stage did."""
