"""What the system knows and does: rules (pure), adapters (one SDK per file), core, services."""
