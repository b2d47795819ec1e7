"""A model in a container: brought up, asked, shut down."""
