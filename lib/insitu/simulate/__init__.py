"""From atoms to movies, the truth of which is known.

- `lattice`: sites of platinum and ceria, and their columns
- `specimens`: a particle on its support, atom by atom (`Recipe`, `build`)
- `ceria`: slabs of ceria with vacancies, steps and wedges, every column known (`build_slab`)
- `structures`: your own, from an .xyz or .cif file (`read_structure`)
- `waves`: the electron wave behind a specimen, by multislice (`exit_wave`)
- `potentials`: the potential that it passes, exact at every position of an atom
- `imaging`: from a wave to images, by the lens (`Optics`, `image`)
- `resampling`: a periodic image on any grid of pixels (`resample`)
- `bank`: waves of many specimens, and training images drawn from them (`Bank`, `sample`)
- `views`: images, with their columns, of specimens that no network was trained on
- `particles`: a particle whose columns move over its surface
- `scenes`: what happens in the movie, atom by atom
- `restless`: scenes without end, for networks to learn from, and films of them
- `movies`: the movie, its counts and its truth (`Plan`, `make_movie`)
- `movie_files`: the movie as a file, and those that ship (`shipped_movie`)
"""
