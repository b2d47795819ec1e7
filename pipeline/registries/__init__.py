"""The directory of registries: entries, queries, checks."""
