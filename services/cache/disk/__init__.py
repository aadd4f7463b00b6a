"""The third tier: entries in one SQLite file on a local disk, which outlive the process and its host's restart."""
