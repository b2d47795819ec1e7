"""One foreign SDK per file. Adapters never import each other and translate its errors inward."""
