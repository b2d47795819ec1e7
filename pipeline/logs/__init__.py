"""What containers write: cut into chunks beside the engine, kept in the store, read by callers."""
