"""The groups: one module for each judged line, or for a few that are measured together."""
