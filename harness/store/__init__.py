"""What is kept of a run: one file of JSON lines, and its way into pandas. Never imports torch."""
