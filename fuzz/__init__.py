"""Coverage-guided fuzzing of what reads files that others made; see README.md."""
