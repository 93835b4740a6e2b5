"""One event schema and its sinks."""
