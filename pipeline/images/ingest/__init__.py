"""Archives on their way into the registry of the platform."""
