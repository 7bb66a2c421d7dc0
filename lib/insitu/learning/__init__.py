"""How networks are trained, and how their weights are kept."""
