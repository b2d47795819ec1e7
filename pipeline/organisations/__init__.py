"""Organisations: their records, and what they may have at most."""
