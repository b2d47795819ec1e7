"""The platform's own registry: who writes into it, and what it holds."""
