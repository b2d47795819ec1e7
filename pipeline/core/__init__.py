"""The use cases behind every door and every stage, one noun per file."""
