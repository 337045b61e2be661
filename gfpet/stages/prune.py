"""Stage `prune`: cuts the Bridge out of the large model. Algorithm 1, step 3 of the paper.

Usage: python -m gfpet.stages.prune FAMILY
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from gfpet.lm.families import Dims
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.scoring import Batch, collate, pad_token
from gfpet.method.derive import contexts
from gfpet.method.prune import Bridge, cut_bridge, prune_settings, save_bridge
from gfpet.stages._family import mixed_examples
from gfpet.stages._harness import StageRun, main, stage
from gfpet.stages._heal import healed
from gfpet.stages._inputs import load_examples, load_model


def prune(family: str) -> None:
    """Write the Bridge's weights, its sizes and its kept coordinates."""
    with stage("prune", family) as run:
        section = run.params.prune
        large = load_model(run.params, family, "large")
        if section.importance == "fisher":
            run.say("prune.importance=fisher computes gradients of the large model; activation and magnitude do not.")
        settings = prune_settings(section)
        bridge = cut_bridge(large, _batches(run, large, settings.batch_size), settings, measure=run.measure)
        if section.heal.epochs:
            _distilled(run, bridge, large)
        save_bridge(bridge, large.model.config, run.output)
        before = sum(parameter.numel() for parameter in large.model.parameters())
        dims, less = large.family.dims(large.model.config), bridge.dims
        run.say(
            f"Bridge: {bridge.parameters:,} of {before:,} parameters (1/{before / bridge.parameters:.1f}; "
            f"prune.factor={section.factor:g} by {section.reduction}), width {less.width} of {dims.width}; "
            + "; ".join(_sizes(name, dims, less) for name in dims.stacks)
        )
        run.log_value("bridge_parameters", bridge.parameters)
        run.log_value("large_parameters", before)
        run.log_value("parameter_ratio", before / bridge.parameters)


def _distilled(run: StageRun, bridge: Bridge, large: LoadedModel) -> None:
    section, pad = run.params.prune.heal, pad_token(large.tokenizer)
    text = contexts(
        mixed_examples(run.params, section.examples),
        large.tokenizer,
        max_length=run.params.models.max_length,
        template=large.template,
    )
    cut_out = LoadedModel(bridge.model, large.family, large.tokenizer, "Bridge")
    healed(run, section, cut_out, large, FrozenModel(large.model), text, pad=pad)


def _sizes(stack: str, whole: Dims, less: Dims) -> str:
    of, kept = whole.stacks[stack], less.stacks[stack]
    return f"{stack}: heads {kept.heads} of {of.heads}, feed-forward {kept.ffn} of {of.ffn}"


def _batches(run: StageRun, large: LoadedModel, size: int) -> Iterator[Batch]:
    """Batches of training examples; divides `prune.examples` evenly among the tasks."""
    tasks = run.params.tasks
    for number, task in enumerate(tasks):
        count = len(range(number, run.params.prune.examples, len(tasks)))
        data = load_examples(run.params, task, large)
        encoded = data.train.encoded[:count]
        for start in range(0, len(encoded), size):
            yield collate(encoded[start : start + size], pad=data.pad).to(large.device)


if __name__ == "__main__":
    main(lambda: prune(*sys.argv[1:]))
