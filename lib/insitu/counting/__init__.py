"""From the expected number of electrons to a count, and back.

- `detector`: what a counting detector is (`Detector`), and the `moments` of its counts
- `poisson`: the ideal one
- `categorical`: one with a weight for every count, fitted to a movie (`Categorical.fit`)
- `weighted_poisson`: its probabilities, and the fit of its weights
- `alias`: random numbers from many tabulated distributions at once
- `pixels`: what is checked of means and counts, and evaluation in blocks
- `noise`: what a movie says of its detector, from counts alone
- `diagnosis`: five questions about a movie's noise, answered in words (`diagnose`)
"""
