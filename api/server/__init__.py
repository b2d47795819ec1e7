"""The side of uvicorn."""
