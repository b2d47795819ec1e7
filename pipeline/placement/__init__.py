"""The scheduler: which node takes a container, and what becomes of lost ones."""
