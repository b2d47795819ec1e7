"""Load tests, trial runs and serving of a version."""
