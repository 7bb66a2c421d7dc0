"""Where atoms are, and what they do: from belief to numbers with error bars.

- `columns`: positions, intensities and widths of columns, with standard errors; start here
- `information`: what a count tells of its mean under any detector
- `joint`: columns of a frame fitted together: cells of pixels and their normal equations
"""
