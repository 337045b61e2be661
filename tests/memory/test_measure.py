from __future__ import annotations

import dataclasses
import json

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from gfpet.errors import GfpetError
from gfpet.memory import MemoryReading, Meter, measure

CPU = torch.device("cpu")


def test_a_phase_that_is_no_loop_is_one_step() -> None:
    weight = torch.zeros(1000)
    with measure("infer", [weight], CPU) as meter, meter.step():
        (weight + 1).sum()
    reading = meter.reading
    assert (reading.phase, reading.cpu_live_peak_bytes) == ("infer", 8004)
    assert (reading.tracked_steps, reading.steps) == (1, 1)
    assert reading.seconds > 0
    assert (reading.cuda_allocated_peak_bytes, reading.cuda_reserved_peak_bytes) == (None, None)


def test_as_dict_is_what_metrics_hold() -> None:
    reading = MemoryReading("x", 1.5, 10, 20, None, None, 2, 7)
    assert reading.as_dict() == {
        "seconds": 1.5,
        "cpu_live_peak_bytes": 10,
        "rss_peak_bytes": 20,
        "tracked_steps": 2,
        "steps": 7,
    }
    assert json.loads(json.dumps(reading.as_dict())) == reading.as_dict()
    with pytest.raises(dataclasses.FrozenInstanceError):
        reading.steps = 1  # type: ignore[misc]


def test_rss_rises_with_the_phase() -> None:
    with measure("small", device=CPU) as small:
        torch.zeros(10)
    with measure("large", device=CPU) as large:
        torch.ones(30_000_000).sum()
    assert large.reading.rss_peak_bytes > small.reading.rss_peak_bytes + 50_000_000


def test_the_reading_is_there_after_the_block_only() -> None:
    with measure("x", device=CPU) as meter, pytest.raises(GfpetError, match="phase 'x' is still running"):
        _ = meter.reading
    assert meter.reading.cpu_live_peak_bytes is None  # nothing was traced


def test_a_phase_that_raises_still_has_its_reading_and_leaves_no_mode_behind() -> None:
    meters: list[Meter] = []

    def fail() -> None:
        with measure("broken", device=CPU) as meter:
            meters.append(meter)
            with meter.step(1):
                torch.zeros(100)
                raise ValueError("in the phase")

    with pytest.raises(ValueError, match="in the phase"):
        fail()
    assert meters[0].reading.cpu_live_peak_bytes == 400
    assert _get_current_dispatch_mode() is None


def test_only_steps_that_can_set_a_new_peak_are_traced() -> None:
    traced = []
    with measure("loop", device=CPU) as meter:
        for size in (10, 5, 8, 20, 10, 20, 21):
            before = meter._tracked
            with meter.step(size):
                torch.zeros(size)
            traced.append(meter._tracked > before)
    assert traced == [True, True, False, True, False, False, True]
    assert (meter.reading.tracked_steps, meter.reading.steps) == (4, 7)
    assert meter.reading.cpu_live_peak_bytes == 84


@pytest.mark.parametrize("named", [False, True])
def test_the_largest_batch_is_traced_again_once_the_optimizer_has_state(named: bool) -> None:
    model = nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(model.parameters())
    traced = []
    with measure("loop", [model], CPU) as meter:
        if named:
            meter.hold(optimizer)
        for size in (9, 2, 9, 9):
            before = meter._tracked
            with meter.step(size):
                optimizer.zero_grad()
                model(torch.zeros(size, 4)).sum().backward()
                optimizer.step()
            traced.append(meter._tracked > before)
    assert traced == [True, True, True, False]


def test_residents_are_not_kept_alive_and_may_die() -> None:
    model: nn.Module | None = nn.Linear(10, 10)
    assert model is not None
    with measure("loop", [model], CPU) as meter:
        with meter.step(1):
            pass
        model = None
        with meter.step(1):
            torch.zeros(5)
    assert meter.reading.cpu_live_peak_bytes == 440  # the model of the first step, freed in the second


def test_steps_inside_inference_mode_leave_no_mode_behind() -> None:
    """A dispatch mode entered outside of inference mode and left inside it would remain in the thread's state."""
    with measure("infer", device=CPU) as meter, torch.inference_mode(), meter.step():
        torch.ones(10).sum()
    assert _get_current_dispatch_mode() is None
    assert torch.randn(3, generator=torch.Generator()).shape == (3,)


def _run(meter: Meter, sizes: list[int], stepwise: bool) -> list[float]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 50))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    meter.hold(model)
    losses = []

    def step(size: int) -> None:
        tokens = torch.arange(size) % 50
        loss = nn.functional.cross_entropy(model(tokens), tokens)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    for size in sizes:
        if stepwise:
            with meter.step(size):
                step(size)
        else:
            step(size)
    return losses


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=8))
def test_traced_steps_find_the_peak_of_the_whole_phase(sizes: list[int]) -> None:
    with measure("steps", device=CPU) as steps:
        stepwise = _run(steps, sizes, stepwise=True)
    with measure("whole", device=CPU) as whole, whole.step():
        all_along = _run(whole, sizes, stepwise=False)
    assert stepwise == all_along
    assert steps.reading.cpu_live_peak_bytes == whole.reading.cpu_live_peak_bytes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_peaks_are_of_the_phase() -> None:
    device = torch.device("cuda")
    with measure("large", device=device) as large:
        torch.zeros(1_000_000, device=device)
    with measure("small", device=device) as small:
        torch.zeros(1000, device=device)
    assert large.reading.cpu_live_peak_bytes is None
    assert large.reading.cuda_allocated_peak_bytes is not None
    assert small.reading.cuda_allocated_peak_bytes is not None
    assert large.reading.cuda_allocated_peak_bytes - small.reading.cuda_allocated_peak_bytes >= 3_900_000
    assert large.reading.cuda_reserved_peak_bytes is not None
