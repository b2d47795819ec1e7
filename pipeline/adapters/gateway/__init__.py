"""HAProxy, by its files and sockets."""
