"""params.yaml and presets: shipped files load, all errors are reported at once, edits keep comments."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gfpet.config import Params, TargetModule, apply_preset, checkpoints, flatten, is_hub_id, load_params, preset_names
from gfpet.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    apply_preset("quick", [], tmp_path / "params.yaml")
    return tmp_path / "params.yaml"


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_params(path)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1))


def test_shipped_file_equals_the_defaults() -> None:
    assert load_params(ROOT / "params.yaml") == Params()


def test_shipped_file_comments_every_section() -> None:
    text = (ROOT / "params.yaml").read_text()
    assert text.count("#") > 40
    assert "tasks: [" in text


@pytest.mark.parametrize("name", preset_names(ROOT / "params.yaml"))
def test_every_preset_is_valid(project: Path, name: str) -> None:
    overrides = ["prepare.directory=data"] if name in ("directory", "smollm2") else []
    apply_preset(name, overrides, project)
    params = load_params(project)
    assert params.preset == name
    assert apply_preset(name, overrides, project) == []


def test_presets_are_what_their_names_say(project: Path) -> None:
    apply_preset("embedded", [], project)
    assert (load_params(project).families, len(load_params(project).tasks)) == (("gpt2", "t5"), 8)
    apply_preset("gpt2-xl", [], project)
    small, large = checkpoints(load_params(project), "gpt2")
    assert (small.path, large.path) == ("openai-community/gpt2", "openai-community/gpt2-xl")
    assert load_params(project).prune.factor == 16
    apply_preset("quick", [], project)
    assert load_params(project) == Params()


def test_directory_needs_its_folder(project: Path) -> None:
    before = project.read_text()
    with pytest.raises(ConfigError, match=r"prepare: directory is null, but source is 'directory'"):
        apply_preset("directory", [], project)
    assert project.read_text() == before


def test_every_problem_is_told_at_once(project: Path) -> None:
    edit(project, "tasks: [boolq, cb, copa]", "tasks: [bolq, copa, 3]")
    edit(project, "  factor: 4.0", "  factr: 4.0")
    edit(project, "  target_modules: [attn.o, mlp.down]", "  target_modules: [attn.o, attn.out]")
    edit(project, "\n  patience: 3", "\n  patience: '3'")
    edit(project, "seeds: [0]", "seeds: [0, 0]\nkinds: [lora]")
    lines = problems(project)
    assert lines == [
        "kinds: given twice, in lines 7 and 9; keep one.",
        "prune.factor: missing; its default is 4.0",
        "tasks[0]: got 'bolq'; allowed: boolq, cb, copa, multirc, record, rte, wic, wsc; did you mean 'boolq'?",
        "tasks[2]: got 3; allowed: boolq, cb, copa, multirc, record, rte, wic, wsc",
        "seeds: names something twice: [0, 0]",
        (
            f"modules.adapter.target_modules[1]: got 'attn.out'; allowed: {', '.join(get_args(TargetModule))}; "
            "did you mean 'attn.o'?"
        ),
        "tune.patience: got '3'; it must be a valid integer",
        (
            "prune.factr: unknown key; did you mean 'factor'?; allowed here: "
            "importance, reduction, factor, examples, batch_size, heal"
        ),
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prune.factor=0", "prune.factor: got 0; it must be greater than 0"),
        ("prune.factor=.inf", "prune.factor: got Infinity; it must be a finite number"),
        ("tune.warmup=1.5", "tune.warmup: got 1.5; it must be less than or equal to 1"),
        ("bridge.epochs=2.5", "bridge.epochs: got 2.5; it must be a valid integer"),
        ("bridge.train_bridge=1", "bridge.train_bridge: got 1; it must be a valid boolean"),
        ("bridge.epochs=true", "bridge.epochs: got true; it must be a valid integer"),
        ("prepare.train_size=none", "prepare.train_size: got 'none'; it must be a valid integer"),
        ("tasks=[]", "tasks: is empty: name at least one"),
        ("tune=3", "tune: got 3; it must be an object"),
        ("tune.learning_rate={lorra: 1.0}", "tune.learning_rate.lorra: unknown key; did you mean 'lora'?"),
        ("bridge.epoch=3", "unknown key 'bridge.epoch'; did you mean 'bridge.epochs'?"),
        ("bridge.epochs", "is not of the form key=value"),
        ("tasks=[cb", "is not a YAML value"),
    ],
)
def test_an_override_that_does_not_fit_changes_nothing(project: Path, override: str, message: str) -> None:
    before = project.read_bytes()
    with pytest.raises(ConfigError) as caught:
        apply_preset(None, [override], project)
    assert message in str(caught.value)
    assert project.read_bytes() == before


def test_a_task_of_the_projects_own_is_allowed(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"tasks\[1\]: got 'tickets'; allowed: boolq, cb, copa, .*, wsc"):
        apply_preset(None, ["tasks=[cb, tickets]"], project)
    (project.parent / "task_files").mkdir()
    (project.parent / "task_files" / "tickets.yaml").touch()
    apply_preset(None, ["tasks=[cb, tickets]"], project)
    assert load_params(project).tasks == ("cb", "tickets")
    with pytest.raises(ConfigError, match=r"got 'tickts'; allowed: .*, wsc, tickets; did you mean 'tickets'\?"):
        apply_preset(None, ["tasks=[tickts]"], project)


def test_no_kinds_need_the_strategy_that_does_without(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"kinds is empty, and evaluate.strategies \['algorithm1'\] has no 'readout'"):
        apply_preset(None, ["kinds=[]", "evaluate.strategies=[algorithm1]"], project)
    with pytest.raises(ConfigError, match=r"kinds is empty, and evaluate.auto \['proxy_tuning'\] has no 'readout'"):
        apply_preset(None, ["kinds=[]", "evaluate.auto=[proxy_tuning]"], project)
    apply_preset(None, ["kinds=[]"], project)
    assert load_params(project).kinds == ()


def test_auto_chooses_among_strategies_that_run(project: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"evaluate: auto names readout, which strategies \['proxy_tuning', 'auto'\] lacks"
    ):
        apply_preset(None, ["evaluate.strategies=[proxy_tuning, auto]"], project)
    apply_preset(None, ["evaluate.strategies=[proxy_tuning, auto]", "evaluate.auto=[proxy_tuning]"], project)
    assert load_params(project).evaluate.auto == ("proxy_tuning",)
    apply_preset(None, ["evaluate.strategies=[proxy_tuning]", "evaluate.auto=[readout]"], project)


def test_numbers_are_read_as_dvc_reads_them(project: Path) -> None:
    apply_preset(None, ["bridge.learning_rate=3e-5"], project)
    assert load_params(project).bridge.learning_rate == 3e-5
    from dvc.utils.serialize import load_yaml

    assert load_yaml(str(project))["bridge"]["learning_rate"] == 3e-5


def test_overrides_go_on_top_and_a_preset_starts_over(project: Path) -> None:
    assert apply_preset(None, ["bridge.epochs=8", "tasks=[cb]"], project) == [
        ("tasks", ["boolq", "cb", "copa"], ["cb"]),
        ("bridge.epochs", 4, 8),
    ]
    assert apply_preset(None, ["seeds=[1, 2]"], project) == [("seeds", [0], [1, 2])]
    assert load_params(project).bridge.epochs == 8
    changed = {key for key, _, _ in apply_preset("quick", ["prune.factor=8"], project)}
    assert changed == {"tasks", "seeds", "bridge.epochs", "prune.factor"}


def test_comments_and_layout_survive(project: Path) -> None:
    before = project.read_text()
    assert "T of the ladder's gate" in before
    apply_preset("gpt2-xl", ["seeds=[0, 1]"], project)
    text = project.read_text()
    assert text.count("#") == before.count("#")
    assert "seeds: [0, 1]\n" in text
    assert "train_size: null # a seeded sample" in text
    apply_preset("quick", [], project)
    assert project.read_text() == before
    assert sorted(path.name for path in project.parent.iterdir()) == ["params.yaml", "presets"]


def test_a_preset_heals_a_broken_file(project: Path) -> None:
    edit(project, "prune: #", "pruning: #")
    edit(project, "preset: quick", "preset: [1]")
    assert len(problems(project)) == 3
    apply_preset("quick", [], project)
    assert load_params(project) == Params()


def test_unknown_preset_names_the_nearest(project: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'embedded'"):
        apply_preset("embeded", [], project)


def test_a_hub_id_needs_a_commit(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"models\.gpt2\.large\.revision: got null"):
        apply_preset(None, ["models.gpt2.large.path=gpt2-xl"], project)
    with pytest.raises(ConfigError, match=r"models\.gpt2\.large\.revision: got 'main'"):
        apply_preset(None, ["models.gpt2.large.path=gpt2-xl", "models.gpt2.large.revision=main"], project)
    (project.parent / "gpt2-xl").mkdir()
    apply_preset(None, ["models.gpt2.large.path=gpt2-xl"], project)
    assert load_params(project).models.gpt2.large.path == "gpt2-xl"
    assert [is_hub_id(path, project.parent) for path in ("gpt2", "org/name", "./gpt2", "/a/b", "a/b/c", "gpt2-xl")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


def test_missing_and_unreadable_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no parameters at"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="must hold keys"):
        load_params(tmp_path / "params.yaml")


def test_unknown_family_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown family 'gpt3'; did you mean 'gpt2'"):
        checkpoints(Params(), "gpt3")


def test_the_small_model_alone_may_be_derived(project: Path) -> None:
    apply_preset(None, ["models.llama.small.path=derive", "derive.layers=12"], project)
    assert load_params(project).models.llama.small.path == "derive"
    with pytest.raises(ConfigError, match=r"models\.llama: large\.path is 'derive', but only the small model can"):
        apply_preset(None, ["models.llama.large.path=derive"], project)
    with pytest.raises(ConfigError, match=r"derive: layers is 2\.5: a part of the layers is below 1"):
        apply_preset(None, ["derive.layers=2.5"], project)


def test_a_gguf_file_is_no_hub_id(project: Path) -> None:
    apply_preset(None, ["models.llama.large.path=models/x.gguf"], project)
    assert not is_hub_id("x.gguf")
    assert not is_hub_id("derive")


def test_gradients_need_the_large_model_in_one_place(project: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_preset(None, ["models.gpt2.large.device_map=auto", "prune.importance=fisher"], project)
    assert "reference.methods: lora, adapter, prefix would take gradients of the large model" in str(caught.value)
    assert "prune.importance: fisher takes gradients of the large model, which models.gpt2.large" in str(caught.value)
    apply_preset(None, ["models.gpt2.large.device_map=auto", "reference.methods=[]"], project)
    with pytest.raises(ConfigError, match=r"models\.gpt2\.large: quantisation is 'int8' and device_map 'auto'"):
        apply_preset(None, ["models.gpt2.large.quantisation=int8"], project)
    apply_preset("quick", ["models.gpt2.large.quantisation=int8", "reference.methods=[lora]"], project)
    with pytest.raises(ConfigError, match=r"reference\.methods: full would take .*quantisation=int8 does not allow"):
        apply_preset(None, ["reference.methods=[lora, full]"], project)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text("abc: #[", max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(sorted(flatten(Params()))), value=VALUES)
def test_any_value_anywhere_is_taken_or_told(project: Path, key: str, value: object) -> None:
    """Any value either loads or raises a ConfigError that names the key; no other exception."""
    values = Params().model_dump(mode="json")
    *parents, last = key.split(".")
    section = values
    for part in parents:
        section = section[part]
    section[last] = value
    path = project.with_name("any.yaml")
    path.write_text(json.dumps(values))  # JSON is valid YAML, and its writer escapes odd strings correctly
    told = ""
    try:
        load_params(path)
    except ConfigError as error:
        told = str(error)
    assert not told or (key.rpartition(".")[0] or key) in told


def test_a_key_that_moved_to_another_section_is_found_there(project: Path) -> None:
    edit(project, "  scales: [", "  confidence: 0.9\n  scales: [")
    (problem,) = problems(project)
    assert problem.startswith("evaluate.confidence: unknown key; did you mean 'report.confidence'?; allowed here:")


def test_parameters_go_to_other_processes() -> None:
    """`gfpet memory estimate` hands them to its workers."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(load_params, ROOT / "params.yaml").result() == Params()
