"""Images: submitted, proved, found, deleted."""
