"""What many clips take: a simulation of servers that drives the server's own scheduling."""
