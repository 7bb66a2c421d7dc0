"""A movie, an image or a tilt series from any file, and results that are whole.

- `movies`: `open_movie`, and the movie that it gives: a region at a time, in electrons as stored
- `kinds`: which reader a file needs, by what it holds rather than by its name
- `axes`: what an axis is by its name and units; colours, channels and time put in their places
- `tif`: TIFF of every compression, in pieces, pyramids, OME, ImageJ, EER
- `mrc`: MRC of every mode, bytes with a sign or without, 4 bits a pixel
- `hdf`: HDF5 and zarr: HyperSpy's, EMD, Dectris, OME-Zarr, or just an array
- `folders`: folders of frames, as in-situ cameras write them
- `others`: what RosettaSciIO, numpy, Pillow and LiberTEM read
- `angles`: a text file of tilt angles, in the ways in which people write numbers
- `results`: files under a temporary name until they are whole, and folders that one run locks
"""

from insitu.files.movies import Movie, open_movie
from insitu.files.results import ResultsFolder, remove, whole

__all__ = ["Movie", "ResultsFolder", "open_movie", "remove", "whole"]
