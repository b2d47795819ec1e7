"""Messages that could not be handled: verdicts, writing, reading."""
