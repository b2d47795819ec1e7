"""A model in a container: says what kind of content a file or a text holds."""
