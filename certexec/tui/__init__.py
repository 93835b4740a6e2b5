"""The terminal app (Textual, extra ``tui``). Nothing else of certexec imports Textual."""
