"""References, platforms, manifests and what image configurations say. Pure."""
