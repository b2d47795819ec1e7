"""Where images come from: registries with their credentials, and the catalogue of images."""
