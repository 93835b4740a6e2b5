"""Systrace's language: syntax, evaluation, compilation (pure)."""
