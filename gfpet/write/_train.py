"""Training a direct write on cached activations, and running it in the large model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor, nn

from gfpet.activations import residual_of, visited
from gfpet.families import Family, stack_of
from gfpet.scoring import Batch, Trunk, backward_loss, trunk_of
from gfpet.task_data import TaskData, dev_score
from gfpet.training import NO_HOOKS, Group, Hooks, Outcome, Settings, train
from gfpet.write._inputs import WriteInputs
from gfpet.write._module import DirectWrite


def fit_write(
    write: DirectWrite,
    head: Float[Tensor, "vocabulary d"],
    data: TaskData,
    train_inputs: WriteInputs,
    dev_inputs: WriteInputs,
    settings: Settings,
    *,
    learning_rate: float,
    seed: int,
    hooks: Hooks = NO_HOOKS,
) -> Outcome:
    """Train in place. Of the large model only the output embedding takes part, as a constant."""
    head = head.detach()

    def backward(batch: Batch, weight: float) -> Tensor:
        return backward_loss(_cached(write, train_inputs), head, batch, weight)

    def evaluate() -> tuple[float, float]:
        return dev_score(data, _cached(write, dev_inputs), head, batch_size=settings.batch_size)

    return train(
        [Group(write.tensors, learning_rate)],
        backward,
        data.train.encoded,
        evaluate,
        settings,
        seed=seed,
        pad=data.pad,
        device=head.device,
        hooks=hooks,
    )


def _cached(write: DirectWrite, inputs: WriteInputs) -> Trunk:
    """The large model's hidden states with what is written, without the large model; zeros where nothing is read."""

    def hidden(batch: Batch) -> Float[Tensor, "rows length d"]:
        written = inputs.hidden_at(batch) + write(inputs.streams(batch), batch)
        empty = written.new_zeros(*batch.texts["decoder"].ids.shape, written.shape[-1])
        return empty.index_put((batch.read_row, batch.read_position), written)

    return hidden


@contextmanager
def writing(model: nn.Module, family: Family, write: DirectWrite) -> Iterator[Trunk]:
    """The large model's forward pass with the direct write, at the positions that are read."""
    streams: dict[str, Tensor] = {}

    def take(space: str, layer: int, states: Tensor) -> None:
        stack = stack_of(space)
        if stack not in streams:
            streams[stack] = states.new_empty(len(write.taps[stack]), *states.shape)
        streams[stack][write.taps[stack].index(layer)] = states

    def hidden(batch: Batch) -> Float[Tensor, "rows length d"]:
        streams.clear()
        states = trunk_of(model, family)(batch)
        at = batch.read_row, batch.read_position
        return states.index_put(at, states[at] + write(streams, batch).to(states.dtype))

    with visited(model, family, map(residual_of, write.taps), take, write.taps):
        yield hidden
