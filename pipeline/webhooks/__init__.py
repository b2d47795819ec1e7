"""Telling receivers of an organisation what happened, over HTTP."""
