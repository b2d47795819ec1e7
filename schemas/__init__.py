"""What crosses the wire: pydantic models, states and their transition tables. No I/O."""
