"""Files of uploads."""
