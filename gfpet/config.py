"""`params.yaml` as one typed model. `gfpet.params_file` reads and writes the file.

The shipped `params.yaml` equals the defaults below (a test holds it). Presets (`presets/*.yaml`) hold only differences.
Stage programs take a section and hand plain arguments to the library; of that, only `gfpet.predict`, which stands in
for the stage programs, sees these classes.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Task = Literal["boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc"]
Kind = Literal["lora", "adapter", "prefix"]
FamilyName = Literal["gpt2", "llama", "t5"]
Dtype = Literal["float32", "bfloat16", "float16"]

DERIVE = "derive"
"""The path of a small model that is made from the large one."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[int, Field(ge=0)]
Site = Literal[
    "attn.q", "attn.k", "attn.v", "attn.o", "mlp.up", "mlp.gate", "mlp.down", "cross.q", "cross.k", "cross.v", "cross.o"
]

Checkpointing = bool | Literal["auto"]
"""Recompute activations in the backward pass instead of keeping them; `auto`: in models of 50M parameters or more."""

T = TypeVar("T")


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) != len(values):
        raise ValueError(f"names something twice: {list(values)}")
    return values


def _not_empty(values: tuple[T, ...]) -> tuple[T, ...]:
    if not values:
        raise ValueError("is empty: name at least one")
    return values


Distinct = Annotated[tuple[T, ...], AfterValidator(_distinct)]
"""A list without repeats; it may be empty."""
Chosen = Annotated[tuple[T, ...], AfterValidator(_not_empty), AfterValidator(_distinct)]
"""A list without repeats that names at least one."""


class Section(BaseModel):
    """A section of `params.yaml`: unknown keys are errors, values are immutable, docstrings describe fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class World(Section):
    """The generated language and benchmark behind the embedded models."""

    seed: NonNegative = 0
    """Draws the task rows. The language and its facts are fixed: the committed checkpoints know them."""


class Prepare(Section):
    """Stage `prepare`: rows of SuperGLUE to examples."""

    source: Literal["embedded", "directory", "hub"] = "embedded"
    """`embedded`: generated here; `directory`: the official release's files; `hub`: Hugging Face datasets."""
    directory: str | None = None
    """Folder with `<Task>/{train,val}.jsonl`; only for `source: directory`."""
    hub_id: str = "aps/super_glue"
    """Data set on the hub; only for `source: hub`."""
    hub_revision: str = "3de24cf8022e94f4ee4b9d55a6f539891524d646"
    """Commit of the data set; a branch name would let results change by themselves."""
    train_size: Positive | None = 1200
    """Examples to train with, a seeded sample; null takes all."""
    dev_size: Positive = 200
    """Examples held out of train: early stopping and every choice is made on these, never on eval."""
    eval_size: Positive | None = 500
    """Examples of the evaluation split, a seeded sample; null takes all."""
    seed: NonNegative = 0
    """Draws the samples and the held-out slice."""

    @model_validator(mode="after")
    def _directory_is_given(self) -> Prepare:
        if self.source == "directory" and not self.directory:
            raise ValueError("directory is null, but source is 'directory': name the SuperGLUE folder")
        return self


class Checkpoint(Section):
    """Where a model comes from."""

    path: str
    """Local folder in the `save_pretrained` form, a file that ends in `.gguf`, or a hub id; of the small model also
    `derive`: made from the large one by stage `derive`."""
    revision: str | None = None
    """Commit on the hub; required for a hub id, unused for what lies here."""
    dtype: Dtype = "float32"
    """Data type of its weights."""


class LargeCheckpoint(Checkpoint):
    """Where the large model comes from, and how its weights are kept: it only runs forward."""

    device_map: Literal["single", "auto"] = "single"
    """`single`: all of it on `models.device`. `auto`: what does not fit there goes to CPU memory, then to disk."""
    memory_gb: PositiveFloat | None = None
    """With `device_map: auto`, what its weights may take of `models.device`, in units of 10^9 bytes; null: what is free
    but a tenth."""
    quantisation: Literal["none", "int8", "int4"] = "none"
    """Weights of its linear maps in 8 or 4 bits, through bitsandbytes, where the hardware has them."""

    @model_validator(mode="after")
    def _one_or_the_other(self) -> LargeCheckpoint:
        if self.quantisation != "none" and self.device_map != "single":
            raise ValueError(
                f"quantisation is '{self.quantisation}' and device_map '{self.device_map}': quantised weights stay on "
                "one device; set device_map to 'single', or quantisation to 'none'"
            )
        return self


class Pair(Section):
    """A small and a large model of one family, with one tokenizer."""

    small: Checkpoint
    large: LargeCheckpoint

    @model_validator(mode="after")
    def _only_small_is_derived(self) -> Pair:
        if self.large.path == DERIVE:
            raise ValueError(f"large.path is '{DERIVE}', but only the small model can be derived, from the large one")
        return self


class Models(Section):
    """The pair of each family, and where they run."""

    device: str = "auto"
    """`auto` (CUDA where there is one, else CPU), `cpu`, `cuda`, `cuda:1`, ..."""
    threads: Positive = 1
    """CPU threads of a stage; sums of floats depend on it, so it is a parameter and not the machine's choice."""
    max_length: Positive = 240
    """Tokens of context and candidate together (of either, where an encoder reads the context); longer contexts lose
    their beginning."""
    gpt2: Pair = Pair(
        small=Checkpoint(path="checkpoints/gpt2/small"),
        large=LargeCheckpoint(path="checkpoints/gpt2/large"),
    )
    llama: Pair = Pair(
        small=Checkpoint(path="checkpoints/llama/small"),
        large=LargeCheckpoint(path="checkpoints/llama/large"),
    )
    t5: Pair = Pair(
        small=Checkpoint(path="checkpoints/t5/small"),
        large=LargeCheckpoint(path="checkpoints/t5/large"),
    )


class Lora(Section):
    """LoRA (Hu et al. 2021)."""

    rank: Positive = 8
    alpha: PositiveFloat = 16.0
    """The update is scaled by alpha / rank."""
    sites: Chosen[Site] = ("attn.q", "attn.v")


class Adapter(Section):
    """Bottleneck adapter (Houlsby et al. 2019)."""

    bottleneck: Positive = 16
    sites: Chosen[Site] = ("attn.o", "mlp.down")


class Prefix(Section):
    """Prefix tuning (Li and Liang 2021)."""

    length: Positive = 8


class Modules(Section):
    """Shapes of the three kinds of module."""

    lora: Lora = Lora()
    adapter: Adapter = Adapter()
    prefix: Prefix = Prefix()


class Optimisation(Section):
    """What every training loop takes."""

    epochs: Positive = 6
    batch_size: Positive = 32
    accumulation: Positive = 1
    """Batches whose gradients are summed before one optimizer step."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup: Fraction = 0.06
    """Part of all steps over which the learning rate rises from 0."""
    weight_decay: float = Field(default=0.01, ge=0.0)
    clip: PositiveFloat = 1.0
    """Largest norm of the gradient."""
    patience: NonNegative = 3
    """Epochs without a better held-out score before training stops; 0 never stops early."""
    gradient_checkpointing: Checkpointing = "auto"
    """Recompute activations in the backward pass; `auto`: in models of 50M parameters or more."""
    checkpoint_every: Positive = 50
    """Optimizer steps between two resumable checkpoints."""


class Heal(Optimisation):
    """Distilling the large model into the derived one, on text without labels."""

    epochs: NonNegative = 0
    """0 leaves the derived model as it was cut out."""
    batch_size: Positive = 8
    examples: Positive = 1024
    """Contexts of training examples (over all tasks, answers left out) to learn from."""
    learning_rate: PositiveFloat = 3e-4


class Derive(Section):
    """Stage `derive`: a small model out of the large one, where `models.<family>.small.path` is `derive`."""

    layers: PositiveFloat = 0.34
    """Blocks that stay: below 1 a part of the large model's, from 1 on their number."""
    choice: Literal["angular", "cka", "even"] = "angular"
    """Which go: those whose output is most like their input, by angle or by CKA; or evenly spread ones."""
    examples: Positive = 64
    """Contexts of training examples that the likeness is measured on."""
    heal: Heal = Heal()

    @model_validator(mode="after")
    def _whole_number(self) -> Derive:
        if self.layers >= 1 and self.layers != int(self.layers):
            raise ValueError(f"layers is {self.layers:g}: a part of the layers is below 1, a number of them whole")
        return self


class Tune(Optimisation):
    """Stage `tune`: a module on the small model."""

    epochs: Positive = 8
    learning_rate: dict[Kind, PositiveFloat] = {"lora": 3e-3, "adapter": 3e-3, "prefix": 1e-2}


class Reference(Optimisation):
    """Stage `reference`: the large model by gradients, the ceiling that everything is compared with."""

    epochs: Positive = 4
    gradient_checkpointing: Checkpointing = False
    dtype: Dtype = "float32"
    """Data type of L's weights here, whatever it is where L only runs forward."""
    methods: Distinct[Literal["full", "lora", "adapter", "prefix"]] = ("full", "lora", "adapter", "prefix")
    """An empty list leaves the columns that need them empty."""
    learning_rate: dict[Literal["full", "lora", "adapter", "prefix"], PositiveFloat] = {
        "full": 3e-4,
        "lora": 3e-3,
        "adapter": 3e-3,
        "prefix": 1e-2,
    }


class Align(Section):
    """Stage `align`: closed-form maps between the activations of the two models, from forward passes only."""

    method: Literal["ridge", "procrustes", "identity"] = "ridge"
    """`identity` fits nothing: for a small model as wide as the large one, as a derived one is."""
    ridge: PositiveFloat = 1e-2
    """Ridge penalty, as a part of the mean variance of the inputs."""
    centre: bool = True
    examples: Positive = 256
    """Training examples (over all tasks) whose text both models read."""
    batch_size: Positive = 16
    """Texts read at a time."""
    budget_gb: PositiveFloat = 1.0
    """Memory for sums and maps, in units of 10^9 bytes: where all layers' are more, the text is read several times."""
    layer_map: Literal["stack", "interpolate", "depth", "cka", "derived"] = "interpolate"
    """Which layer of the small model a layer of the large one takes its module from (METHOD: layer map). `derived`:
    each layer of a derived small model goes back to where it was cut out; the others take none."""


class Prune(Section):
    """Stage `prune`: the Bridge cut out of the large model."""

    importance: Literal["activation", "magnitude", "fisher"] = "activation"
    reduction: Literal["parameters", "width"] = "parameters"
    """What `factor` divides: the parameter count (width by its root), or every width."""
    factor: PositiveFloat = 4.0
    """Reduction factor r."""
    examples: Positive = 128
    """Training examples that importance is measured on."""
    batch_size: Positive = 16
    """Examples read at a time; `fisher` takes one by definition."""


class Plug(Section):
    """`W_plug`: how a module of the small model is carried to the large one."""

    initialisation: Literal["closed_form", "random"] = "closed_form"
    """Start of `W_plug`: the maps of stage `align`, or random orthogonal ones."""
    sharing: Literal["per_layer", "shared"] = "per_layer"
    """A map for each layer, or one for all layers of a site."""
    update: Literal["auto", "full", "low_rank", "none"] = "auto"
    """What of `W_plug` stage `bridge` trains: the maps, low-rank updates of them, or nothing. `auto`: the maps where
    they have at most 10M values, low-rank updates beyond (AdamW holds 16 bytes a trained value)."""
    update_rank: Positive = 16
    """Rank of `low_rank` updates."""
    divide_by_copies: bool = True
    """k copies of one layer's update are each divided by k."""


class Activations(Section):
    """The large model's activations that the Bridge reads."""

    store: Literal["auto", "full", "projected", "recompute"] = "auto"
    """`full` width, `projected` to the Bridge's residual coordinates, or recomputed; `auto`: the first that fits."""
    dtype: Dtype = "float32"
    budget_gb: PositiveFloat = 2.0
    """Disk that one task's cache may take, in units of 10^9 bytes."""


class Bridge(Optimisation):
    """Stage `bridge`: module, `W_plug`, `W_down` and the Bridge are fine-tuned together."""

    epochs: Positive = 4
    learning_rate: PositiveFloat = 1e-3
    """For the module and its maps."""
    bridge_learning_rate: PositiveFloat = 1e-3
    """For the Bridge's own weights and its ladder."""
    train_bridge: bool = True
    """Whether the Bridge's own weights are trained."""
    w_down: Literal["auto", "learned", "selection"] = "auto"
    """`learned`: trained from the selection of the Bridge's coordinates on; `selection`: stays it. `auto`: learned
    where it has at most 10M values."""
    temperature: PositiveFloat = 0.1
    """T of the ladder's gate sigmoid(a / T)."""
    activations: Activations = Activations()


class Evaluate(Section):
    """Stage `evaluate`: the large model with the plugged module, forward only."""

    batch_size: Positive = 64
    controls: Distinct[Literal["zero_shot", "random_w_plug"]] = ("zero_shot", "random_w_plug")
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    resamples: Positive = 1000
    """Bootstrap resamples behind each interval."""


class Similarity(Section):
    """Stage `similarity`: modules of the small and of the large model side by side."""

    examples: Positive = 64
    """Evaluation-free text (training examples) that the modules' effects are compared on."""
    null_samples: Positive = 5
    """Random maps and untrained modules drawn for the null controls."""


class Params(Section):
    """All of `params.yaml`."""

    preset: str = "quick"
    """Name of the preset that was applied last; for the record only."""
    families: Chosen[FamilyName] = ("gpt2",)
    tasks: Chosen[Task] = ("boolq", "cb", "copa")
    kinds: Chosen[Kind] = ("lora", "adapter", "prefix")
    seeds: Chosen[NonNegative] = (0,)
    world: World = World()
    prepare: Prepare = Prepare()
    models: Models = Models()
    modules: Modules = Modules()
    derive: Derive = Derive()
    tune: Tune = Tune()
    reference: Reference = Reference()
    align: Align = Align()
    similarity: Similarity = Similarity()
    prune: Prune = Prune()
    plug: Plug = Plug()
    bridge: Bridge = Bridge()
    evaluate: Evaluate = Evaluate()
