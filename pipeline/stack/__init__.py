"""The embedded stack: NATS, MongoDB, registry and engine as child processes of one command."""
