"""Containers: what their owners ask for, and the rules of their states."""
