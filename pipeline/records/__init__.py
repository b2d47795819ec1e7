"""The kernel: guarded writes of records, their messages and outbox, which requests are the same."""
