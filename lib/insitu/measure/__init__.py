"""Where atoms are, and what they do: from belief to numbers with error bars, part IV of the book.

- `columns`: positions, intensities and widths of columns, with standard errors; start here
- `following`: a particle through a movie: names of its columns, turn and strain
- `lattice`: crystals among the columns of a frame, and the names that they give
- `facets`: which columns are of the surface, and on what facet
- `motion`: how a set of columns moved as a rigid body
- `information`: what a count tells of its mean under any detector
- `joint`: columns of a frame fitted together: cells of pixels and their normal equations
- `scoring`: the steps to the most likely columns, and what can go wrong with one
- `evidence`: what the counts of a frame say for a column, and against it
- `states`: absent or present, a hidden Markov model of every column
- `events`: the table of what happened, where, when, and how sure that is
- `charts`: averages and sums that alarm when a series leaves its level
- `run_lengths`: how long a chart waits, for a false alarm and for a true one
- `correlation`: series whose frames are not independent, as behind a denoiser
"""
