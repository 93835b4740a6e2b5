"""Thin, typed doors to Linux."""
