"""The embedded stack: NATS, MongoDB, registry, engine and gateway as children of one command.

The names of its pieces are here for those who must not load the pieces to know them.
"""

APPS = ("api", "workers", "agent", "gateway")
PIECES = ("nats", "mongod", "registry", "dockerd", "haproxy", *APPS)
"""In the order of their start."""
