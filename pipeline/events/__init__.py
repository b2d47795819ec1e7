"""The live feed of events for readers of HTTP."""
