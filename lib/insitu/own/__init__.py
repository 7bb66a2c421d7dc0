"""What the book does, done to a file of your own: called by the commands and by the chapters.

- `looking`: `look`, what a movie is, which methods apply and why, and what can be mended
- `denoising`: `denoise`, a movie by a network that learns from it alone, or by one that ships
- `judging`: `judge`, a denoised movie by its raw counts
- `measuring`: `measure`, the columns of a movie, by name, and what happened when
- `occupying`: `count_atoms`, how many atoms are in each column of an image of ceria
- `reconstructing`: `reconstruct`, the volume at every tilt of a series
- `together`: `everything`, all of that with one movie, and one report
- `advice`: which methods apply to a movie, and why
- `values`: whether values are electrons, electrons times a gain, or grey levels
- `mending`: broken pixels, and drift
- `reading`: which frames of a movie the beam reached, and what else is odd of a file
- `places`: columns and atoms of a judged movie, place by place: tables, maps, words
- `reports`: what each writes: `results.json`, numbers by name, and `report.html`, one file that
  opens offline
- `writing`: movies for other programs, tif, zarr and hspy, and an mp4 to look at

All check everything before any work, show progress, go on where an earlier run was killed, and
write into a folder that is locked meanwhile.
"""

from insitu.own.denoising import denoise
from insitu.own.judging import judge
from insitu.own.looking import look
from insitu.own.measuring import measure
from insitu.own.occupying import count_atoms
from insitu.own.reconstructing import reconstruct
from insitu.own.together import everything, set_aside

__all__ = [
    "count_atoms",
    "denoise",
    "everything",
    "judge",
    "look",
    "measure",
    "reconstruct",
    "set_aside",
]
