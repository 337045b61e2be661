"""The parts of a peak, in small cases with hand-counted results."""

from __future__ import annotations

import torch
from torch import nn

from gfpet.memory import CATEGORIES, LiveStorages, category, measure

CPU = torch.device("cpu")
WEIGHTS = 4 * (10 * 20 + 20 + 20 * 3 + 3)


def test_a_training_step_splits_into_weights_gradients_and_optimizer_state() -> None:
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 3))
    optimizer = torch.optim.AdamW(model.parameters())
    with measure("train", [model], CPU) as meter:
        for _ in range(3):
            with meter.step():
                model(torch.zeros(7, 10)).sum().backward()
                optimizer.step()
                optimizer.zero_grad()
    reading = meter.reading
    split = reading.cpu_live_split
    assert split is not None
    assert sum(split.values()) == reading.cpu_live_peak_bytes
    assert split["weights"] == WEIGHTS
    assert split["gradients"] == WEIGHTS
    assert split["optimizer"] == 2 * WEIGHTS + 4 * 4  # each of four tensors also has a step counter
    assert split["cached"] == 0
    assert reading.as_dict()["cpu_live_peak_optimizer_bytes"] == split["optimizer"]


def test_named_storages_count_as_what_they_are_named() -> None:
    live = LiveStorages()
    with live.tracing():
        with category("cached"):
            kept = torch.zeros(1000)
        made = torch.zeros(500)
    assert live.peak_split() == dict.fromkeys(CATEGORIES, 0) | {"cached": 4000, "activations": 2000}
    del kept, made


def test_inputs_that_nobody_named_are_other() -> None:
    old, weight = torch.zeros(100), torch.zeros(50)
    live = LiveStorages()
    with live.tracing([weight]):
        big = torch.zeros(1000)
        del big
        (old.sum() + weight.sum()).item()
    split = live.peak_split()
    assert (split["other"], split["weights"], split["activations"]) == (400, 200, 4000)


def test_the_split_is_that_of_the_peak_and_not_of_the_end() -> None:
    live = LiveStorages()
    with live.tracing():
        big = torch.zeros(1000)
        del big
        with category("other"):
            late = torch.zeros(10)
    assert live.peak_split()["activations"] == 4000
    assert live.peak_split()["other"] == 0
    del late


def test_parts_are_told_apart_by_the_module_that_made_them() -> None:
    model = nn.Sequential(nn.Linear(10, 20), nn.Sequential(nn.ReLU(), nn.Linear(20, 3)))
    live = LiveStorages(model)
    with live.tracing([model]):
        out = model(torch.zeros(7, 10)).sum()
    parts = live.peak_parts()
    assert parts["activations", "0"] == 4 * 7 * 20
    assert parts["activations", "1.0"] == 4 * 7 * 20
    assert parts["activations", "1.1"] == 4 * 7 * 3
    assert parts["weights", ""] == WEIGHTS
    assert sum(parts.values()) == live.peak()
    del out


def test_gradients_are_known_in_the_middle_of_the_backward_pass() -> None:
    """Checkpointed full fine-tuning peaks there: most gradients exist, and the optimizer has not started."""
    layers = nn.ModuleList(nn.Linear(50, 50, bias=False) for _ in range(6))
    with measure("train", [layers], CPU) as meter, meter.step():
        x = torch.zeros(1, 50)
        for layer in layers:
            x = layer(x)
        x.sum().backward()
    split = meter.reading.cpu_live_split
    assert split is not None
    assert split["gradients"] >= 5 * 4 * 50 * 50
