"""``make attack``: files are changed in a loop while certificates for them run."""
