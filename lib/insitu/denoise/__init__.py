"""From counts to intensities: networks that were shown simulations, or one noisy movie alone."""
