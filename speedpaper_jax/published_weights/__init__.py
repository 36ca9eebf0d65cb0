"""Weights that others have published: which there are, and how their files are fetched."""
