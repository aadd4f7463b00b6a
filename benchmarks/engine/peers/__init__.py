"""What a user could run instead. Each module is a program, for an interpreter that has the peer installed."""
