"""Where a model's files come from: a directory, a .gguf file, a hub id or a package. Only `convert` needs torch."""
