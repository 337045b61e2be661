"""Training a readout on cached activations, and running it in the large model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor, nn

from gfpet.lm.activations import residual_of, visited
from gfpet.lm.families import Family, stack_of
from gfpet.lm.scoring import Backbone, Batch, TaskData, backbone_of, backward_loss, dev_score
from gfpet.lm.training import NO_HOOKS, Group, Hooks, Outcome, Settings, train
from gfpet.method.readout._inputs import ReadoutInputs
from gfpet.method.readout._module import Readout


def fit_readout(
    readout: Readout,
    head: Float[Tensor, "vocabulary d"],
    data: TaskData,
    train_inputs: ReadoutInputs,
    dev_inputs: ReadoutInputs,
    settings: Settings,
    *,
    learning_rate: float,
    seed: int,
    hooks: Hooks = NO_HOOKS,
) -> Outcome:
    """Train the readout in place. Only the large model's output embedding takes part, as a constant."""
    head = head.detach()

    def backward(batch: Batch, weight: float) -> Tensor:
        return backward_loss(_cached(readout, train_inputs), head, batch, weight)

    def evaluate() -> tuple[float, float]:
        return dev_score(data, _cached(readout, dev_inputs), head, batch_size=settings.batch_size)

    return train(
        [Group(readout.tensors, learning_rate)],
        backward,
        data.train.encoded,
        evaluate,
        settings,
        seed=seed,
        pad=data.pad,
        device=head.device,
        hooks=hooks,
    )


def _cached(readout: Readout, inputs: ReadoutInputs) -> Backbone:
    """Cached hidden states plus the readout's output; zeros at positions without a read."""

    def hidden(batch: Batch) -> Float[Tensor, "rows length d"]:
        written = inputs.hidden_at(batch) + readout(inputs.streams(batch), batch)
        empty = written.new_zeros(*batch.texts["decoder"].ids.shape, written.shape[-1])
        return empty.index_put((batch.read_row, batch.read_position), written)

    return hidden


@contextmanager
def with_readout(model: nn.Module, family: Family, readout: Readout) -> Iterator[Backbone]:
    """The large model's forward pass with the readout's output added at the reads."""
    streams: dict[str, Tensor] = {}

    def take(space: str, layer: int, states: Tensor) -> None:
        stack = stack_of(space)
        if stack not in streams:
            streams[stack] = states.new_empty(len(readout.layers_read[stack]), *states.shape)
        streams[stack][readout.layers_read[stack].index(layer)] = states

    def hidden(batch: Batch) -> Float[Tensor, "rows length d"]:
        streams.clear()
        states = backbone_of(model, family)(batch)
        at = batch.read_row, batch.read_position
        return states.index_put(at, states[at] + readout(streams, batch).to(states.dtype))

    with visited(model, family, map(residual_of, readout.layers_read), take, readout.layers_read):
        yield hidden
