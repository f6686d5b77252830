"""From results to a page and a table in the terminal. Never imports torch."""
