"""The examples of docs/extending.md run as they stand, are short, and every method is in the table of methods; what a
file of one's own lacks is one line."""

import math
import re
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import extensions
import pytest
import torch
from conftest import REPOSITORY, Say
from test_bad_input import write_preset

from layerprune.core.data import catalog
from layerprune.core.methods import description, families, listing
from layerprune.core.methods.base import keep_highest
from layerprune.core.methods.scores import consensus, magnitude
from layerprune.core.networks.build import build, initialise
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.settings.methods import ConsensusSettings
from layerprune.core.training.section_scores import metered_score
from layerprune.core.version import version_in
from layerprune.errors import SettingError

PAGE = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
HEADINGS = ["Add a method", "Add a network", "Add a data set"]


def code_blocks(heading: str) -> list[str]:
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)


def run(code: str, names: dict[str, Any]) -> dict[str, Any]:
    exec(compile(code, "docs/extending.md", "exec"), names)
    return names


def example(heading: str) -> dict[str, Any]:
    """What the first Python block below a heading defines."""
    return run(code_blocks(heading)[0], {})


def test_every_example_is_executed_here_and_short() -> None:
    executed = [code for heading in HEADINGS for code in code_blocks(heading)]
    assert executed == re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert max(len(code.splitlines()) for code in executed) < 40


def test_the_method_ranks_sections() -> None:
    network = build("mlp-residual-5", (1, 28, 28), 10, torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.sections[3].branch[-1].bias.fill_(1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of torch, for numbers that still require a gradient
        scores = [float(score) for score in example("Add a method")["score"](network, [])]
    assert keep_highest(scores, 1) == [0, 0, 0, 1, 0]


def test_the_network_has_sections() -> None:
    network = example("Add a network")["build"]("tiny-mlp", (1, 28, 28), 10)
    initialise(network, torch.Generator().manual_seed(0))
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert network.keep() == [1, 1, 1]


def test_the_data_set_loads_as_its_row_of_the_catalog_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = example("Add a data set")["load"](tmp_path)
    row = run(code_blocks("Add a data set")[1], vars(catalog).copy())["FEW_DIGITS"]
    monkeypatch.setattr(catalog, "_FORMS", {row.name: (row,)})
    assert catalog.is_available(data.name, tmp_path, download=False) == (True, "")
    assert set(data.train.labels.tolist()) == set(data.test.labels.tolist()) == set(range(row.classes))
    assert (data.classes, len(data.train), data.source) == (row.classes, row.train, row.sources[0])


def test_every_method_is_described_where_methods_are_listed() -> None:
    page = (REPOSITORY / "docs" / "methods.md").read_text(encoding="utf-8")
    for slug, family in families().items():
        (_, table, _) = re.split(rf"<!-- /?generated:methods:{family} -->", page)
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{slug}` |")]
        assert len(row.split("|", 2)[2].replace("|", "").strip()) > 20
        assert description(slug) in listing()


# --- what a file of one's own may lack ------------------------------------------------------------------------------

PRESET = """\
resources: {{state_seconds: 0}}
training: {{duration: 1ep, batch_size: 128, lr: 0.05}}
finetune: {{duration: 1ep}}
datasets: {{{data}: {{archs: {{{arch}: {{}}}}, methods: {{{methods}}}}}}}
data: {{download: false}}
"""
OWN_METHODS = ("scores", "trained", "controls")


def words(folder: str, root: Path, arch: str = "lenet-300-100", settings: str = "{keep: 1}") -> list[str]:
    """The command line of a run with the file in this folder, and its preset, which is written."""
    named = {"data": "digits", "arch": arch, "method": "dense"}
    named["arch" if folder == "archs" else "data" if folder == "data" else "method"] = extensions.SLUG
    block = f"{{settings: {settings}}}" if folder == "scores" else "{}"
    methods = "dense: {}" + (f", {extensions.SLUG}: {block}" if folder in OWN_METHODS else "")
    write_preset(root, PRESET.format(**named | {"methods": methods}))
    return "run --preset study --dataset {data} --arch {arch} --method {method}".format(**named).split()


SCORE = "def score(model, batches):\n    return range(len(model.sections))\n"
V1 = "VERSION = 1\n"
NO_VERSION, UNKNOWN = "must say which version it is, as in VERSION = 1", "is unknown (known: "
LACKING = [
    ("scores", SCORE, NO_VERSION),
    ("scores", f"VERSION: int\n{SCORE}", NO_VERSION),
    ("scores", f"del VERSION\n{SCORE}", NO_VERSION),
    ("scores", f"VERSION = '2'\n{SCORE}", f"{NO_VERSION}, not '2'"),
    ("scores", f"VERSION = True\n{SCORE}", f"{NO_VERSION}, not True"),
    ("scores", f"VERSION = int(1)\n{SCORE}", "VERSION must be written out, as in VERSION = 1, not int(1)"),
    ("scores", f"{V1}REQUIRES = 'batchnorm'\n{SCORE}", f"REQUIRES = 'batchnorm' {UNKNOWN}batch-norm, open-branches, "),
    ("scores", f"{V1}REQUIRES: list = ['stages']\n{SCORE}", f"REQUIRES = ['stages'] {UNKNOWN}batch-norm"),
    ("scores", f"{V1}LOOKS_AT = 'test'\n{SCORE}", f"LOOKS_AT = 'test' {UNKNOWN}training, validation)"),
    ("scores", f"{V1}LOOKS_AT: str = 'Validation'\n{SCORE}", f"LOOKS_AT = 'Validation' {UNKNOWN}training, validation)"),
    ("scores", f"{V1}def score(model, batches:\n", "line 2: not valid Python: '(' was never closed"),
    ("scores", f"{V1}return 1\n", "line 2: not valid Python: 'return' outside function"),
    ("scores", f"{V1}\0\n", "not valid Python: source code string cannot contain null bytes"),
    ("scores", V1 + "-" * 100_000 + "1\n", "not valid Python"),
    ("scores", f"{V1}def scores(model, batches):\n    return [1]\n", "must define score(model, batches)"),
    ("scores", f"{V1}score = 3\n", "must define score(model, batches)"),
    ("scores", f"{V1}def score(model):\n    return [1]\n", "must define score(model, batches): too many"),
    (
        "scores",
        f"{V1}def score(model, batches, more):\n    return []\n",
        "must define score(model, batches): missing a",
    ),
    ("scores", f"{V1}{SCORE}def choose(scores): return []\n", "must define choose(scores, count, settings): too many"),
    ("trained", V1, "must define Method(settings, network, context)"),
    ("trained", f"{V1}class Method:\n    pass\n", "must define Method(settings, network, context): too many"),
    ("trained", f"{V1}def Method(settings, network, context): pass\n", "Method must be a class derived from TrainingM"),
    ("trained", f"{V1}class Method:\n    def __init__(self, *_): pass\n", "Method must be a class derived from Train"),
    ("controls", f"{V1}def plan(settings): return None\n", "must define plan(settings, question): too many"),
    ("archs", "def build(arch, input_shape, classes): return None\n", NO_VERSION),
    ("archs", f"{V1}def build(:\n", "line 2: not valid Python"),
    ("archs", V1, "must define build(arch, input_shape, classes)"),
    ("archs", f"{V1}def build(arch): return None\n", "must define build(arch, input_shape, classes): too many"),
    ("archs", f"{V1}def build(*_): return None\n", "build must return a SectionedNetwork, not NoneType"),
    ("data", "def load(root): return None\n", NO_VERSION),
    ("data", f"{V1}def load(:\n", "line 2: not valid Python"),
    ("data", V1, "must define load(root)"),
    ("data", f"{V1}def load(): return None\n", "must define load(root): too many"),
    ("data", f"{V1}def load(root): return [1]\n", "load must return a DataSet, not list"),
]


@pytest.mark.parametrize(("folder", "text", "told"), LACKING, ids=[f"{each[0]}: {each[2]}"[:60] for each in LACKING])
def test_what_a_file_lacks_is_one_line_that_names_it_before_anything_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say, folder: str, text: str, told: str
) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    with extensions.extended(tmp_path, folder, text) as path:
        status, said = say(*words(folder, tmp_path))
    (line,) = said.splitlines()
    assert status == 2 and f"{path}: {told}" in line
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.parametrize("text", ["VERSION: int = 1\n", "VERSION = LATEST = 1\n", "LATEST = VERSION = 1\n"])
def test_a_version_may_be_written_with_its_type(tmp_path: Path, text: str) -> None:
    path = tmp_path / "method.py"
    path.write_text(text)
    assert version_in(path) == 1


@pytest.mark.parametrize(("removal", "sections"), [("one-shot", 3), ("iterative", 3), ("iterative", 2)])
def test_a_score_that_is_no_number_ends_the_run_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say, removal: str, sections: int
) -> None:
    """At the start, and in fine-tuning after the first removal."""
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    returned = f"[0.0 if len(model.sections) > {sections} else float('nan') for section in model.sections]"
    with extensions.extended(tmp_path, "scores", f"{V1}def score(model, batches):\n    return {returned}\n"):
        told = words("scores", tmp_path, arch="mlp-residual-3", settings=f"{{keep: 1, removal: {removal}}}")
        status, said = say(*told)
    assert status == 2
    assert re.search(r": tried-out: the score of section 'section\d\d' is nan$", said.splitlines()[-1])
    assert [path.parts[-4] for path in tmp_path.rglob("record.json")] == ["dense"]


def small() -> SectionedNetwork:
    return build("mlp-residual-3", (1, 28, 28), 10, torch.Generator().manual_seed(0))


A_NUMBER_EACH = "own: score must return a number for each of 3 sections, not "
NO_SCORES = {
    "nothing": (None, f"{A_NUMBER_EACH}a NoneType: "),
    "one number": (torch.tensor(1.0), f"{A_NUMBER_EACH}a Tensor: iteration over a 0-d tensor"),
    "numbers and nothing": ([1.0, None, 2.0], f"{A_NUMBER_EACH}a list: "),
    "a row a section": (torch.zeros(3, 2), f"{A_NUMBER_EACH}a Tensor: "),
    "words": (["a", "b", "c"], f"{A_NUMBER_EACH}a list: "),
    "too few": ([1.0, 2.0], f"{A_NUMBER_EACH}2"),
    "too many": (torch.zeros(4), f"{A_NUMBER_EACH}4"),
    "none": ([], f"{A_NUMBER_EACH}0"),
    "not a number": (torch.tensor([0.0, math.nan, 1.0]), "own: the score of section 'section01' is nan"),
    "infinite": ([0.0, 1.0, -math.inf], "own: the score of section 'section02' is -inf"),
}


@pytest.mark.parametrize("kind", NO_SCORES)
def test_what_is_no_score_is_refused_by_the_method_s_name(kind: str) -> None:
    returned, told = NO_SCORES[kind]
    with pytest.raises(SettingError) as error:
        metered_score(lambda model, batches: returned, small(), [], 0, "own")
    assert str(error.value).startswith(told) and "\n" not in str(error.value)


def test_a_part_of_a_consensus_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks are numbers whatever is ranked."""
    monkeypatch.setattr(magnitude, "score", lambda model, batches: torch.tensor([1.0, math.nan, 0.0]))
    with pytest.raises(SettingError, match=r"^magnitude: the score of section '\w+' is nan$"):
        consensus.score(small(), [], ConsensusSettings(metrics=("magnitude",)))


@pytest.mark.parametrize("kind", [torch.tensor, list, tuple, lambda values: torch.tensor(values, requires_grad=True)])
def test_scores_may_be_a_list_or_still_require_a_gradient(kind: Callable) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores, _ = metered_score(lambda model, batches: kind([0.5, 2.0, 1.0]), small(), [], 0)
    assert scores == [0.5, 2.0, 1.0]


@pytest.mark.parametrize("fails", [False, True])
def test_no_gradient_of_a_score_is_left_for_the_first_step(fails: bool) -> None:
    def score(model: SectionedNetwork, batches: list) -> torch.Tensor:
        model(torch.ones(2, 1, 28, 28)).sum().backward()
        if fails:
            raise RuntimeError("not today")
        return torch.stack([section.branch[-1].weight.grad.norm() for section in model.sections])

    network = small()
    with pytest.raises(RuntimeError, match="not today") if fails else nullcontext():
        assert min(metered_score(score, network, [], 0)[0]) > 0
    assert all(parameter.grad is None for parameter in network.parameters())
