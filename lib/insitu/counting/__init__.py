"""From the expected number of electrons to a count, and back."""
