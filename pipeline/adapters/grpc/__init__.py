"""Models that speak gRPC."""
