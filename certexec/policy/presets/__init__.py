"""Rules that many programs need, by name and version (files NAME-VERSION, without a header)."""
