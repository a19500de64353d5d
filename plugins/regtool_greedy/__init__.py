"""greedy as a method; the tool itself is installed separately (picsl-greedy)."""
