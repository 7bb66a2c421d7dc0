"""Where atoms are, and what they do: from belief to numbers with error bars, part IV of the book.

- `columns`: positions, intensities and widths of columns, with standard errors; start here
- `following`: a particle through a movie: names of its columns, turn and strain
- `lattice`: crystals among the columns of a frame, and the names that they give
- `facets`: which columns are of the surface, and on what facet
- `states`: absent or present, from counts, by a hidden Markov model of every column
- `events`: the table of what happened, where, when, and how sure that is
- `occupancy`: how many atoms are in every column of an image of ceria, with intervals
- `hops`: atoms that come and go: numbers over time, and rates with intervals
- `charts`: averages and sums that alarm when a series leaves its level, frame by frame
- `run_lengths`: how long a chart waits, for a false alarm and for a true one
- `nulls`: limits and probabilities where frames are not independent, as behind a denoiser
- `joint`: columns of a frame fitted together: cells of pixels and their normal equations
- `scoring`: the steps to the most likely columns under any detector, and what can go wrong
"""
