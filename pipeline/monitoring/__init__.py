"""Figures of the whole system, for monitoring."""
