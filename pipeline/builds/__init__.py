"""Builds: images made of a Dockerfile on a node, and kept like every other one."""
