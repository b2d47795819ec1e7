"""The HTTP server: one module per door, errors translated in `problems`, events sent as SSE."""
