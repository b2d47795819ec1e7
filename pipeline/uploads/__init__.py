"""Resumable uploads (tus)."""
