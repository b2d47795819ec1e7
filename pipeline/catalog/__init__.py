"""The catalogue of Docker images: what is offered, and what it requires of a node."""
