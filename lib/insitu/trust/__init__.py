"""How far to believe a denoised image: part III of the book.

- `report`: a card for any pair of movies, counts and denoised, by region; start here
- `lines`: the lines of the card that are told by region: numbers, limits, verdict, words
- `regions`: where vacuum, bulk, surface and support are, found from the two movies
- `regression`: the counts regressed on a denoised movie: contrast, changes, shifts, by column
- `missing`: columns too much or missing, by the counts of all frames
- `adversaries`: movies that are wrong in one known way, by which a judge is judged
- `averaging`: the mean of denoised frames against that of the raw ones
- `without_truth`: errors without a truth, with intervals; ring correlation
- `likelihood`: is this atom in the data: the published map, and a calibrated test of candidates
- `metrics`: PSNR, SSIM and line profiles, where the truth is known
- `columns`: atomic columns in an image, and how many of them are right

`from insitu.trust.report import report` gives the function; none of these trains or runs a network.
"""
