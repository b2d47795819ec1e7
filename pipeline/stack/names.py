"""The names of the pieces, for those who must not load the pieces to know them."""

BASE = ("nats", "mongod", "registry", "dockerd")
APPS = ("api", "workers", "agent")
PIECES = (*BASE, *APPS)
"""In the order of their start."""
