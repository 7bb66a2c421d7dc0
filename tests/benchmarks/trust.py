"""Speed of the test of candidates, on one core: `make bench`."""

import statistics
import time

import numpy as np
import torch

from insitu.book import chapter
from insitu.counting.categorical import Categorical
from insitu.counting.poisson import Poisson
from insitu.trust import likelihood


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.46, (100, 256, 256)).astype(np.uint8)
    positions = rng.uniform(8, 247, (1000, 2))
    for name, detector in (("Poisson", Poisson()), ("Categorical", Categorical.sub_frames(4))):
        seconds = []
        for _ in range(5):
            begin = time.perf_counter()
            found = likelihood.ratio_test(counts, positions, 6.0, 0.55, 0.46, detector)
            likelihood.discoveries(found.p_value)
            seconds.append(time.perf_counter() - begin)
        print(
            f"1000 candidates in 100 frames of 256 x 256, {name}: "
            f"{statistics.median(seconds):.3f} s"
        )


if __name__ == "__main__":
    print(chapter.device_name(torch.device("cpu")))
    main()
