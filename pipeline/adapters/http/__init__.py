"""HTTP to addresses that users give."""
