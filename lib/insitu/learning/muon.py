"""Muon: momentum whose update is made orthogonal, so that all directions are learned alike.

A layer's gradient is dominated by few directions, and Adam follows those; here the update of a
matrix of weights keeps its singular vectors and sets its singular values to about one [1]_.

.. [1] K. Jordan et al., Muon: an optimizer for hidden layers in neural networks (2024); the
   scale is that of J. Liu et al., Muon is scalable for LLM training, arXiv:2502.16982, times
   the root of rows over columns where a matrix has more rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Muon for convolutions and matrices; for gains (vectors), sign-like steps as in Adam.

    Parameters
    ----------
    parameters : iterable of Parameter
        Weights; a convolution's (out, in, y, x) is taken as a matrix (out, in y x).
    lr : float
        Root mean square of an update, times about five.
    momentum : float
        Decay of the running mean of the gradients.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 6e-3, momentum: float = 0.95
    ) -> None:
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Change every weight that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    update = self._update(weight, group["momentum"])
                    weight.add_(update, alpha=-group["lr"])

    def _update(self, weight: Tensor, momentum: float) -> Tensor:
        state: dict[str, Any] = self.state[weight]
        gradient = weight.grad
        assert gradient is not None
        if not state:
            state["mean"] = torch.zeros_like(weight)
            state["square"] = torch.zeros_like(weight) if _is_gain(weight) else torch.zeros(())
        state["mean"].lerp_(gradient, 1 - momentum)
        ahead = gradient.lerp(state["mean"], momentum)
        if _is_gain(weight):
            state["square"].lerp_(gradient**2, 0.01)
            return ahead / (state["square"].sqrt() + 1e-12)
        matrix = orthogonal(ahead.reshape(len(ahead), -1))
        scale = 0.2 * max(matrix.shape) ** 0.5 * max(1.0, len(matrix) / matrix.shape[1]) ** 0.5
        return (scale * matrix).reshape(weight.shape)


def orthogonal(matrix: Tensor, iterations: int = 5) -> Tensor:
    """U V^T, roughly, of a matrix U S V^T: singular values between 0.7 and 1.2.

    By Newton and Schulz's iteration X <- (a + b X X^T + c (X X^T)^2) X. All its factors are
    polynomials of X X^T, which is small where a convolution is a wide matrix, so they are
    multiplied first, and X but once.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    gram = x @ x.mT
    product = torch.eye(len(x), dtype=x.dtype, device=x.device)
    for _ in range(iterations):
        factor = b * gram + c * gram @ gram
        factor.diagonal().add_(a)
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.mT if tall else x


def _is_gain(weight: Tensor) -> bool:
    return max(weight.shape) == weight.numel()
