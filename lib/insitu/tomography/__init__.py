"""From tilt series to volumes, one for every moment.

- `series`: tilt series read from any file and checked, volumes written
- `projection`: the projection as an operator, A(volume) and A.T(projections); a differentiable one
- `algebraic`: reconstruction without a network: SIRT, total variation, moving windows, low rank
- `phantoms`: particles that change while they are tilted, and their tilt series
- `prior`: a specimen that may change in any way: what a small network draws easily
- `mixing`: a specimen of which the law is known by which its two metals mix
- `volumes`: the one fit of both to a tilt series, and a stream of fits while tilts arrive
- `ensembles`: several fits: their mean, their standard deviation, their files
- `errorbars`: what error bars cover by region, and factors that mend them
- `alloying`: volume, mixing and diffusivity of two metals
- `rendering`: a volume of two metals as one sees it: silver as glass, with its gold
- `needle`: a benchmark that changes, from a real recording
"""
