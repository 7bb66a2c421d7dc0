"""From pictures to measurements: part IV of the book."""
