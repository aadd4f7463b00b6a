"""Selection by relevance: which pieces of a prompt are worth sending."""
