"""Whose signatures count, and for what."""
