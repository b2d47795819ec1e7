"""Registry credentials: sealed, held while used, rotated."""
