from __future__ import annotations

import pytest
import torch

from gfpet.estimate import mezo_step


def test_a_step_goes_down_the_slope_along_its_direction() -> None:
    start = {"a": torch.tensor([1.0, -2.0, 3.0]).double(), "b": torch.full((2, 2), 0.5).double()}
    moved = {name: tensor.clone() for name, tensor in start.items()}

    def loss() -> float:
        return float(sum(tensor.square().sum() for tensor in moved.values()))

    slope = mezo_step(moved, loss, learning_rate=0.1, epsilon=1e-3, seed=3)
    generator = torch.Generator().manual_seed(3)
    direction = {
        name: torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype) for name, tensor in start.items()
    }
    exact = sum(float((2 * start[name] * direction[name]).sum()) for name in start)
    assert slope == pytest.approx(exact, rel=1e-3)
    for name in start:
        torch.testing.assert_close(moved[name], start[name] - 0.1 * slope * direction[name], atol=1e-5, rtol=0)


def test_many_steps_find_a_minimum() -> None:
    target = torch.tensor([0.3, -0.7, 1.1, 0.0])
    found = {"x": torch.zeros(4)}
    for step in range(400):
        mezo_step(
            found, lambda: float((found["x"] - target).square().sum()), learning_rate=0.05, epsilon=1e-3, seed=step
        )
    torch.testing.assert_close(found["x"], target, atol=0.02, rtol=0)
