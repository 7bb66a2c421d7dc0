"""From counts to expected counts: filters, and networks that learn.

Whatever it learned from, a denoiser is called `denoiser(counts, pixel_size)`, with counts (y, x) or
(t, y, x) and the size of a pixel in A, and gives expected counts: float32, of the same shape.

- `classical`: denoisers that learn nothing, and their tuning
- `local_wiener`: the local Wiener filter, which averages over a lattice
- `binning`: fine pixels binned for a network, large images cut into tiles
- `networks`: networks without additive constants
- `examples`: training examples drawn from simulations, and their losses
- `supervised`: denoisers that learned from simulations, and GainTuning
- `learn`: how those that ship were trained
- `motion`: how the specimen moves, from place to place and from frame to frame
- `sums`: sums of frames, plain and along the motion
- `restorer`: a denoiser that restores such sums, and chooses among them from place to place
- `halves`: the same from one movie alone, by halves of its electrons
- `learn_movies`: how the one that ships was trained, on simulated movies without end
- `surroundings`: what a blind network is shown beside the frame that it predicts
- `blind_networks`: networks that predict a count without having seen it: UDVD, and ours
- `blocks`: what is learned of a movie: blocks, counts held back, the loss that fits
- `unsupervised`: `learn_movie`, a denoiser from one movie alone
- `movies`: that denoiser at work
- `residuals`: what counts minus prediction tells: errors without a truth, and the innovation
- `saved`: `load_denoiser`, for all that were saved
"""
