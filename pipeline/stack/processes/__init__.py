"""Processes, their groups, ports and logs."""
