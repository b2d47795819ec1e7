"""Replicas that are kept answering: desired state, reconciled."""
