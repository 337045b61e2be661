"""Live bytes of small cases with hand-counted results. All tensors are float32: 4 bytes per number."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from gfpet.memory import LiveStorages


def test_a_storage_counts_once_however_many_views_share_it() -> None:
    live = LiveStorages()
    with live.tracing():
        whole = torch.zeros(1000)
        view = whole[:10].view(2, 5)
        again = whole.reshape(10, 100)
        assert live.live() == 4000
        del whole, again
        assert live.live() == 4000
        del view
        assert live.live() == 0
    assert live.peak() == 4000


def test_in_place_operators_take_nothing_and_out_of_place_ones_do() -> None:
    live = LiveStorages()
    with live.tracing():
        a = torch.zeros(100)
        a.add_(1).mul_(2)
        torch.add(a, a, out=a)
        assert live.peak() == 400
        b = a + 1
        assert live.live() == live.peak() == 800
        del b
        c = a * 2
    assert (live.live(), live.peak()) == (800, 800)
    del a, c
    assert live.live() == 0


def test_a_resized_storage_counts_at_its_new_size() -> None:
    live = LiveStorages()
    with live.tracing():
        a = torch.zeros(10)
        a.resize_(1000)
        a.zero_()
        assert live.live() == 4000


def test_inputs_from_before_were_there_all_along() -> None:
    old, resident = torch.zeros(100), torch.zeros(50)
    live = LiveStorages()
    with live.tracing([resident]):
        big = torch.zeros(1000)
        del big
        assert live.peak() == 4000 + 200
        old.sum()
    assert live.peak() == 4000 + 200 + 400


def test_a_later_window_does_not_raise_an_earlier_peak() -> None:
    live = LiveStorages()
    with live.tracing():
        big = torch.zeros(1000)
        del big
    late = torch.zeros(10)
    with live.tracing():
        late.add_(1)
    assert live.peak() == 4000


def test_a_literal_counts_from_where_it_was_made() -> None:
    live = LiveStorages()
    with live.tracing():
        big = torch.zeros(1000)
        del big
        torch.tensor([1.0, 2.0])
    assert live.peak() == 4000


def test_lists_of_outputs_and_of_inputs_count() -> None:
    live = LiveStorages()
    with live.tracing():
        parts = [torch.zeros(5), torch.zeros(7)]
        torch._foreach_add_(parts, 1.0)
        values, indices = torch.cat(parts).sort()
    assert live.live() == 4 * (5 + 7) + 4 * 12 + 8 * 12
    del values, indices


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_composite_operators_show_what_they_make_on_their_way(mode: Callable[[], torch.inference_mode]) -> None:
    # cross_entropy is one operator in inference mode, but it allocates the log-probabilities inside.
    logits, target = torch.zeros(8, 100), torch.zeros(8, dtype=torch.long)
    live = LiveStorages()
    with mode(), live.tracing([logits, target]):
        torch.nn.functional.cross_entropy(logits, target)
    known = 4 * 800 + 8 * 8
    assert known + 4 * 800 <= live.peak() <= known + 4 * 800 + 16


def _mlp() -> tuple[nn.Sequential, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 3)), torch.randn(7, 10)


def test_backward_of_an_mlp() -> None:
    model, x = _mlp()
    weights = 4 * (10 * 20 + 20 + 20 * 3 + 3)
    live = LiveStorages()
    with live.tracing([model, x]):
        y = model[0](x)
        h = model[1](y)
        del y  # relu saves only its output
        z = model[2](h)
        del h
        assert live.live() == weights + 4 * (70 + 7 * 20 + 7 * 3)
        z.sum().backward()
        assert live.live() == 2 * weights + 4 * (70 + 7 * 3)  # a gradient for each weight; saved activations are freed
    # During backward, relu's output and the gradients after and before it are alive with the last layer's gradients.
    assert live.peak() >= weights + 4 * (70 + 7 * 3 + 3 * 7 * 20 + 20 * 3 + 3)


class _Square(torch.autograd.Function):
    """A function whose backward allocates 5000 numbers internally."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        scratch = torch.zeros(5000)
        return 2 * x * grad + scratch[0]


def test_what_only_backward_makes_is_seen() -> None:
    x = torch.ones(10, requires_grad=True)
    live = LiveStorages()
    with live.tracing([x]):
        loss = _Square.apply(x).sum()
        assert live.peak() < 200
        loss.backward()
    assert 20_000 < live.peak() < 20_000 + 400


def test_adamw_state_is_two_copies_of_the_weights() -> None:
    model, x = _mlp()
    weights = 4 * (10 * 20 + 20 + 20 * 3 + 3)
    optimizer = torch.optim.AdamW(model.parameters())
    live = LiveStorages()
    with live.tracing([model, x]):
        model(x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        assert live.live() == 3 * weights + 4 * 70 + 4 * 4  # each of four tensors also has a step counter
    fresh = LiveStorages()
    fresh.register([model, optimizer])
    assert fresh.live() == 3 * weights + 4 * 4


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_holds_less(reentrant: bool) -> None:
    torch.manual_seed(0)
    blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 8)) for _ in range(6))
    x = torch.randn(32, 8, requires_grad=True)

    def loss(checkpointed: bool) -> torch.Tensor:
        h = x
        for block in blocks:
            h = checkpoint(block, h, use_reentrant=reentrant) if checkpointed else block(h)
        return h.sum()

    peaks, values = [], []
    for checkpointed in (False, True):
        blocks.zero_grad()
        live = LiveStorages()
        with live.tracing([blocks, x]):
            value = loss(checkpointed)
            value.backward()
        peaks.append(live.peak())
        values.append([value.item(), *(p.grad.clone() for p in blocks.parameters() if p.grad is not None)])
    assert peaks[1] < peaks[0] - 2 * 4 * 32 * 64
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(*values, strict=True))


def _train(model: nn.Module, batches: list[torch.Tensor]) -> float:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for batch in batches:
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
    return loss.item()


def _allocator_peak(run: Callable[[], object]) -> int:
    """Peak bytes of torch's CPU allocator, from its own events."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize("shape", ["mlp", "transformer"])
def test_training_is_bitwise_the_same_and_the_peak_is_the_allocators(shape: str) -> None:
    torch.manual_seed(0)
    model: nn.Module = (
        nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))
        if shape == "mlp"
        else nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.0)
    )
    plain, other = copy.deepcopy(model), copy.deepcopy(model)
    batches = [torch.randn(4, length, 64) for length in (8, 16, 12)]
    before = sum(4 * tensor.numel() for tensor in [*model.parameters(), *batches])
    live = LiveStorages()
    with live.tracing([model, *batches]):
        traced_loss = _train(model, batches)
    assert traced_loss == _train(plain, batches)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    # Kernels wrap plain numbers in 8-byte tensors, which a dispatch mode cannot see.
    assert 0 <= _allocator_peak(lambda: _train(other, batches)) - (live.peak() - before) <= 32


def test_nothing_is_kept_alive() -> None:
    live = LiveStorages()
    with live.tracing():
        a = torch.zeros(10, requires_grad=True)
        b = (a * 2).sum()
        watched = [weakref.ref(a), weakref.ref(b), weakref.ref(a.untyped_storage())]
        del a, b
        gc.collect()
        assert [ref() for ref in watched] == [None, None, None]
    assert live.live() == 0


def test_fake_tensors_count_at_full_size_on_the_device_they_claim() -> None:
    with FakeTensorMode():
        live = LiveStorages()
        with live.tracing(), torch.inference_mode():
            weight = torch.empty(100_000, 100_000, device="cuda", dtype=torch.bfloat16)
            torch.nn.functional.linear(torch.empty(1, 100_000, device="cuda", dtype=torch.bfloat16), weight)
    assert live.peak("cuda") == 2 * 100_000 * 100_000 + 2 * 2 * 100_000
    assert live.peak("cpu") == 0
