"""Volumes at every moment of a tilt series: phantoms, projectors, reconstruction, deep prior."""
