"""Filters and updates in MongoDB's language: parsed, written back, matched, applied. Pure."""
