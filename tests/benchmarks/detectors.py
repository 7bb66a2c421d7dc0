"""Speed of the detectors against numpy, in one run, on one core: `make bench`.

Every ratio is of medians of interleaved rounds over the same 1024 x 1024 pixels; above 1 means
that ours is faster.
"""

import statistics
import time

import numpy as np
import torch

from insitu.counting.categorical import Categorical
from insitu.counting.poisson import Poisson

ROUNDS = 15
MEANS = (0.46, 0.8, 2.0, 8.0, 20.0)


def main() -> None:
    torch.set_num_threads(1)
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    weights = np.log([1.0, 1.0, 0.73, 0.34, 0.083])
    print(
        f"{'mean':>6} {'numpy':>9} | {'Poisson sample':>20} {'log_prob':>9} "
        f"| {'Categorical sample':>20} {'log_prob':>9}"
    )
    for mean in MEANS:
        intensity = mean * (0.75 + 0.5 * torch.rand(1024, 1024, generator=generator))
        array = intensity.numpy()
        poisson, categorical = Poisson(), Categorical(weights, max_mean=max(8, 1.3 * mean))
        drawn = [d.sample(intensity, generator) for d in (poisson, categorical)]
        tasks = {
            "numpy": lambda x=array: rng.poisson(x),
            "p_sample": lambda d=poisson, x=intensity: d.sample(x, generator),
            "p_log": lambda d=poisson, k=drawn[0], x=intensity: d.log_prob(k, x),
            "c_sample": lambda d=categorical, x=intensity: d.sample(x, generator),
            "c_log": lambda d=categorical, k=drawn[1], x=intensity: d.log_prob(k, x),
        }
        seconds: dict[str, list[float]] = {name: [] for name in tasks}
        for _ in range(ROUNDS):
            for name, task in tasks.items():
                begin = time.perf_counter()
                task()
                seconds[name].append(time.perf_counter() - begin)
        nano = {name: statistics.median(s) / array.size * 1e9 for name, s in seconds.items()}
        print(
            f"{mean:6.2f} {nano['numpy']:6.1f} ns |"
            f" {nano['p_sample']:6.1f} ns = {nano['numpy'] / nano['p_sample']:4.2f} x faster"
            f" {nano['p_log']:6.1f} ns |"
            f" {nano['c_sample']:6.1f} ns = {nano['numpy'] / nano['c_sample']:4.2f} x faster"
            f" {nano['c_log']:6.1f} ns"
        )


if __name__ == "__main__":
    main()
