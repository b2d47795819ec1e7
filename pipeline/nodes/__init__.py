"""Leases of GPUs on the record of a node."""
