"""The door for callers: admits a request, looks it up, compresses, picks an instance, relays, and writes the bill."""
