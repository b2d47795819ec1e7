"""TARs of images: the format, its compression, its layouts. Pure; reads hostile input."""
