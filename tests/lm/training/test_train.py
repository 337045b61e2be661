"""The training loop gives the same numbers with or without interruption, in small or large batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gfpet.errors import GfpetError, NumberError
from gfpet.lm.scoring import Batch, candidate_scores, ranking_loss
from gfpet.lm.training import Backward, Group, Hooks, Outcome, Settings, epoch_order, learning_rate_factor, train
from tests.tiny import END, VOCABULARY, encoded, learnable

ROWS = encoded(learnable(14))
SETTINGS = Settings(epochs=3, batch_size=4, checkpoint_every=2)
STEPS_PER_EPOCH = 4

Curve = dict[tuple[str, int], float]


class Problem:
    """A fast problem with two parameter groups: a running sum of byte embeddings through a fixed head."""

    def __init__(self, scores: list[float] | None = None, losses: list[float] | None = None) -> None:
        generator = torch.Generator().manual_seed(0)
        self.bytes = torch.randn(VOCABULARY, 6, generator=generator) * 0.1
        self.shift = torch.zeros(6)
        self.head = torch.randn(VOCABULARY, 6, generator=generator)
        self.scores, self.losses = scores, losses
        self.curve: Curve = {}
        self.logged: list[tuple[str, int]] = []
        self.rates: list[float] = []
        self.epoch_values: list[Tensor] = []

    def groups(self) -> list[Group]:
        return [Group({"bytes": self.bytes}, 0.05), Group({"shift": self.shift}, 0.01)]

    def loss(self, batch: Batch) -> Tensor:
        hidden = self.bytes[batch.texts["decoder"].ids].cumsum(1) + self.shift
        return ranking_loss(candidate_scores(hidden, self.head, batch), batch)

    def backward(self, batch: Batch, weight: float) -> Tensor:
        loss = self.loss(batch)
        (loss * weight).backward()
        return loss.detach()

    def evaluate(self) -> tuple[float, float]:
        self.epoch_values.append(self.bytes.detach().clone())
        number = len(self.epoch_values) - 1
        if self.scores is not None:
            return self.scores[number], 0.0 if self.losses is None else self.losses[number]
        total = float(self.bytes.detach().sum())
        return math.sin(total * 100), total

    def log(self, series: str, step: int, value: float) -> None:
        self.curve[series, step] = value
        self.logged.append((series, step))

    def run(self, settings: Settings, backward: Backward | None = None, checkpoint: Path | None = None) -> Outcome:
        return train(
            self.groups(),
            backward or self.backward,
            ROWS,
            self.evaluate,
            settings,
            seed=3,
            pad=END,
            device=torch.device("cpu"),
            hooks=Hooks(checkpoint=checkpoint, log=self.log, title="tiny"),
        )


def breaking_at(problem: Problem, call: int) -> Backward:
    """A `backward` that is interrupted in call number `call`, counted from 0."""
    calls = [0]

    def backward(batch: Batch, weight: float) -> Tensor:
        if calls[0] == call:
            raise KeyboardInterrupt
        calls[0] += 1
        return problem.backward(batch, weight)

    return backward


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("call", [0, 1, 3, 4, 5, 9, 11])
def test_a_resumed_run_is_the_unbroken_run_bit_for_bit(call: int, schedule: str, tmp_path: Path) -> None:
    settings = replace(SETTINGS, schedule=schedule)  # type: ignore[arg-type]
    unbroken = Problem()
    expected = unbroken.run(settings)
    assert expected.steps == 12

    first, file = Problem(), tmp_path / "work" / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        first.run(settings, breaking_at(first, call), file)
    second = Problem()
    second.curve = dict(first.curve)
    second.epoch_values = list(first.epoch_values)
    outcome = second.run(settings, checkpoint=file)

    assert outcome == replace(expected, resumed_at=call - call % 2)
    assert torch.equal(second.bytes, unbroken.bytes)
    assert torch.equal(second.shift, unbroken.shift)
    assert second.curve == unbroken.curve
    assert not (tmp_path / "work" / "state.partial").exists()


def test_an_interruption_between_the_last_step_and_the_evaluation_is_resumed(tmp_path: Path) -> None:
    unbroken, first, second = Problem(), Problem(), Problem()
    expected = unbroken.run(SETTINGS)
    file = tmp_path / "state.safetensors"

    def interrupted() -> tuple[float, float]:
        raise KeyboardInterrupt

    first.evaluate = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        first.run(SETTINGS, checkpoint=file)
    assert second.run(SETTINGS, checkpoint=file) == replace(expected, resumed_at=STEPS_PER_EPOCH)
    assert torch.equal(second.bytes, unbroken.bytes)


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    one, two, file = Problem(), Problem(), tmp_path / "state.safetensors"
    expected = one.run(SETTINGS, checkpoint=file)
    outcome = two.run(SETTINGS, breaking_at(two, 0), file)
    assert outcome == replace(expected, resumed_at=12)
    assert torch.equal(one.bytes, two.bytes)
    assert two.logged == []


def test_the_best_epoch_is_kept_and_nothing_is_left_trainable() -> None:
    problem = Problem(scores=[0.2, 0.9, 0.5])
    outcome = problem.run(SETTINGS)
    assert (outcome.best_epoch, outcome.best_score, outcome.epochs) == (2, 0.9, 3)
    assert torch.equal(problem.bytes, problem.epoch_values[1])
    assert not torch.equal(problem.bytes, problem.epoch_values[2])
    assert not problem.bytes.requires_grad
    assert problem.bytes.grad is None


def test_the_lower_loss_breaks_ties_and_the_earlier_epoch_keeps_them() -> None:
    assert Problem([0.5, 0.5, 0.5], [0.3, 0.2, 0.2]).run(SETTINGS).best_epoch == 2


def test_a_held_out_score_that_is_no_number_ends_training() -> None:
    with pytest.raises(NumberError, match=r"the held-out score and loss are \(nan, .*\) after \d+ steps; lower"):
        Problem([0.1, math.nan, 0.2]).run(SETTINGS)


@pytest.mark.parametrize(("patience", "epochs"), [(0, 6), (1, 3), (2, 4), (5, 6)])
def test_patience_ends_training(patience: int, epochs: int) -> None:
    problem = Problem(scores=[0.1, 0.5, 0.4, 0.3, 0.2, 0.1])
    outcome = problem.run(replace(SETTINGS, epochs=6, patience=patience))
    assert (outcome.epochs, outcome.best_epoch, outcome.steps) == (epochs, 2, epochs * STEPS_PER_EPOCH)


@pytest.mark.parametrize(("patience", "epochs"), [(0, 6), (5, 4)])
def test_a_perfect_score_with_no_loss_left_ends_training_unless_nothing_does(patience: int, epochs: int) -> None:
    problem = Problem(scores=[0.9, 1.0, 0.9, 1.0, 1.0, 1.0], losses=[0.001, 0.5, 0.001, 0.005, 0.001, 0.0005])
    outcome = problem.run(replace(SETTINGS, epochs=6, patience=patience))
    assert (outcome.epochs, outcome.best_epoch) == (epochs, epochs)


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_accumulated_batches_equal_one_large_one(batch_size: int) -> None:
    """14 is no multiple of 8: examples in the smaller last step must have equal weights."""
    large, small = Problem(), Problem()
    large.run(replace(SETTINGS, batch_size=8))
    small.run(replace(SETTINGS, batch_size=batch_size, accumulation=8 // batch_size))
    losses = [(name, step) for name, step in large.curve if name == "loss"]
    assert len(losses) == 6
    assert [small.curve[key] for key in losses] == pytest.approx([large.curve[key] for key in losses], abs=1e-5)
    assert torch.allclose(small.epoch_values[0], large.epoch_values[0], atol=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_said(bad: float) -> None:
    problem, calls = Problem(), [0]

    def backward(batch: Batch, weight: float) -> Tensor:
        calls[0] += 1
        return problem.backward(batch, weight) * (bad if calls[0] == 6 else 1.0)

    with pytest.raises(GfpetError, match=rf"tiny: the loss is {bad} after 5 steps; lower the .* \(now 0\.05\)"):
        problem.run(SETTINGS, backward)


def test_a_step_that_failed_is_not_checkpointed(tmp_path: Path) -> None:
    problem, file = Problem(), tmp_path / "state.safetensors"
    broken = Problem()
    with pytest.raises(GfpetError):
        problem.run(SETTINGS, lambda batch, weight: problem.backward(batch, weight) * math.nan, file)
    assert not file.exists()
    assert broken.run(SETTINGS, checkpoint=file).resumed_at == 0


def test_the_gradient_is_clipped() -> None:
    norms: list[float] = []
    problem = Problem()
    real_step = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, closure: None = None) -> None:
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.cat([gradient.flatten() for gradient in gradients]).norm()))
        real_step(self, closure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        problem.run(replace(SETTINGS, clip=1e-3))
    assert norms == pytest.approx([1e-3] * 12, rel=1e-2)


def test_learning_rate_values() -> None:
    def line(schedule: str, warmup: float, steps: int) -> list[float]:
        return [learning_rate_factor(step, steps, schedule, warmup) for step in range(steps)]

    assert line("constant", 0.0, 4) == [1.0] * 4
    assert line("constant", 0.5, 4) == [0.5, 1.0, 1.0, 1.0]
    assert line("linear", 0.0, 4) == [1.0, 0.75, 0.5, 0.25]
    assert line("linear", 0.2, 5) == [1.0, 1.0, 0.75, 0.5, 0.25]
    assert line("linear", 0.4, 5) == pytest.approx([0.5, 1.0, 1.0, 2 / 3, 1 / 3])
    assert line("cosine", 0.0, 4) == pytest.approx([1.0, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)])
    assert line("linear", 1.0, 2) == [0.5, 1.0]


def test_each_group_has_its_own_learning_rate() -> None:
    problem, rates = Problem(), []
    real_step = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, closure: None = None) -> None:
        rates.append(tuple(group["lr"] for group in self.param_groups))
        real_step(self, closure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        problem.run(replace(SETTINGS, warmup=0.0, epochs=1))
    assert rates == [pytest.approx((0.05 * factor, 0.01 * factor)) for factor in (1.0, 0.75, 0.5, 0.25)]


def test_epochs_are_ordered_by_seed_and_number_alone() -> None:
    assert sorted(epoch_order(9, 0, 0)) == list(range(9))
    assert epoch_order(9, 0, 1) == epoch_order(9, 0, 1)
    assert len({tuple(epoch_order(9, seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_steps_are_opened_with_the_largest_batch_in_them() -> None:
    from contextlib import AbstractContextManager, nullcontext

    sizes: list[int] = []

    def opened(size: int) -> AbstractContextManager[None]:
        sizes.append(size)
        return nullcontext()

    problem = Problem()
    train(
        problem.groups(), problem.backward, ROWS, problem.evaluate, replace(SETTINGS, epochs=1, accumulation=2),
        seed=0, pad=END, device=torch.device("cpu"), hooks=Hooks(step=opened),
    )  # fmt: skip
    assert sizes == [4 * 5, 4 * 5]


def other_names(file: Path) -> None:
    train([Group({"other": torch.zeros(1)}, 0.1)], lambda *_: torch.zeros(()), ROWS, lambda: (0.0, 0.0), SETTINGS,
          seed=0, pad=END, device=torch.device("cpu"), hooks=Hooks(checkpoint=file))  # fmt: skip


def other_shapes(file: Path) -> None:
    problem = Problem()
    problem.shift = torch.zeros(1, 6)
    problem.run(SETTINGS, checkpoint=file)


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])
    Problem().run(SETTINGS, checkpoint=file)


def no_checkpoint(file: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, file)
    Problem().run(SETTINGS, checkpoint=file)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (other_names, r"of another training run: 3 of its parameters differ.*e\.g\. 'bytes'; delete it"),
        (other_shapes, r"of another training run: 1 of its parameters differ.*e\.g\. 'shift'; delete it"),
        (cut_off, r"cannot read the checkpoint .*state\.safetensors: .*; delete it to begin anew"),
        (no_checkpoint, r"cannot read the checkpoint .*; delete it to begin anew"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_said(spoil: Callable[[Path], None], text: str, tmp_path: Path) -> None:
    file = tmp_path / "state.safetensors"
    Problem().run(replace(SETTINGS, epochs=1), checkpoint=file)
    with pytest.raises(GfpetError, match=text):
        spoil(file)
