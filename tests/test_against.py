"""Two codes are compared by running both: what is equal keeps its records, what differs loses them."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import layerprune
from layerprune import against, config, paths, record, runner
from layerprune.analysis import verify
from layerprune.errors import LayerpruneError
from layerprune.paths import RunKey

PRESET = """
training: {duration: 2ep, batch_size: 128, lr: 0.01}
finetune: {duration: 1ep}
datasets:
  digits:
    archs: {mlp-residual-3: {}}
    methods:
      dense: {seeds: [0, 1]}
      magnitude: {settings: {keep: 1}}
      random: {settings: {keep: 1}}
      last-k: {settings: {keep: 1}}
data: {download: false}
"""
FEWER = PRESET.replace("      last-k: {settings: {keep: 1}}\n", "")


def key_of(method: str, seed: int = 0) -> RunKey:
    return RunKey("study", "digits", "mlp-residual-3", method, "default", seed)


KEYS = [key_of("dense"), key_of("dense", 1), *map(key_of, ("magnitude", "random", "last-k"))]


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """Older code: a statement that changes nothing stands in what all runs share, and magnitude was upside down."""
    folder = tmp_path / "older"
    shutil.copytree(Path(layerprune.__file__).parent, folder / "src" / "layerprune")
    package = folder / "src" / "layerprune"
    replace_in(package / "seeding.py", '    text = "/".join(', '    assert seed >= 0\n    text = "/".join(')
    replace_in(package / "methods" / "scores" / "magnitude.py", "    return ", "    return -1 * ")
    return folder


@pytest.fixture
def root(tmp_path: Path, older: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study whose records say that the older code made them, and one seed's that a still older one did."""
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path / "study"))
    paths.preset_file("study").parent.mkdir(parents=True)
    paths.preset_file("study").write_text(PRESET)
    paths.preset_file("small").write_text(FEWER)
    for key in KEYS:
        runner.run(key, "cpu", 1, lambda *_: None, lambda _: None)
    monkeypatch.setattr(against, "_checked_out", lambda commit: older)
    code = against.Code(older / "src", tmp_path / "elsewhere")
    for key in KEYS:
        made = record.read(paths.record(key))
        group = [key.dataset, key.arch, key.method]
        words = f"from layerprune.provenance import source_digest; print(source_digest(*{group}))"
        digest = "0" * 16 if key.seed == 1 else code.call(against.config.load_preset("study"), "-c", words).strip()
        source = made.provenance.model_copy(update={"source_digest": digest})
        record.write(paths.record(key), made.model_copy(update={"provenance": source}))
    return tmp_path / "study"


@pytest.mark.slow
def test_what_both_codes_make_alike_is_current_again_and_nothing_else(root: Path) -> None:
    said: list[str] = []
    differing = against.requalify_against("study", "abc", "small", 2, said.append)
    assert differing == [RunKey("small", *list(vars(key_of("magnitude")).values())[1:])]
    stale = {finding.where for finding in verify.verify("study") if finding.kind == "stale-code"}
    # The second seed was made by neither code, of last-k there is no witness.
    assert stale == {str(key_of("magnitude")), str(key_of("last-k")), str(key_of("dense", 1))}
    (entry,) = record.read(paths.record(key_of("random"))).provenance.requalified
    assert entry["witness"] == (
        "small/digits/mlp-residual-3/random/default/seed0 and an epoch of "
        "study-epoch/digits/mlp-residual-3/dense/default/seed0, with the code of abc and with this"
    )
    assert said[0] == "5 records of study are stale by their code, 4 of them made by abc"
    assert said[-1] == "2 records of study are current again"


def test_each_code_is_given_the_presets_of_its_own_time(root: Path, older: Path, tmp_path: Path) -> None:
    """A setting that was renamed since would stop one of them."""
    (older / "config").mkdir()
    (older / "config" / "small.yaml").write_text(FEWER.replace("keep: 1", "keep: 2"))
    codes = [against.Code(older / "src", tmp_path / "older-root"), against.Code(older / "src", tmp_path / "newer-root")]
    for code, home in zip(codes, (older, root), strict=True):
        against._write_presets(code, home, "study", "small")
    texts = [(code.root / "config" / "small.yaml").read_text() for code in codes]
    assert ["keep: 2" in text for text in texts] == [True, False]
    # The older code had no preset `study`: today's, with an epoch of dense on every network.
    for code in codes:
        epoch = against.config.read_preset(code.root / "config" / "study-epoch.yaml")
        assert epoch.training.duration == "1ep" and "last-k" in epoch.datasets["digits"].methods


@pytest.mark.slow
def test_a_witness_that_is_asked_for_differently_speaks_for_nothing(root: Path, older: Path) -> None:
    (older / "config").mkdir()
    (older / "config" / "small.yaml").write_text(
        FEWER.replace("finetune: {duration: 1ep}", "finetune: {duration: 1ep, lr: 0.011}")
    )
    differing = against.requalify_against("study", "abc", "small", 2, lambda _: None)
    assert key_of("random") in [replace(key, preset="study") for key in differing]


def test_short_presets_train_dense_on_every_network_whatever_else_they_allow() -> None:
    text = PRESET.replace("mlp-residual-3: {}", "mlp-residual-3: {only: [magnitude]}")
    raw = yaml.safe_load(config.with_trainings_of_one_epoch(text))
    assert raw["datasets"]["digits"]["archs"]["mlp-residual-3"]["only"] == ["dense", "magnitude"]


def test_a_commit_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    paths.preset_file("study").parent.mkdir(parents=True)
    paths.preset_file("study").write_text(PRESET)
    with pytest.raises(LayerpruneError, match="no commit 'nowhere' in the history"):
        against.requalify_against("study", "nowhere", "study", 1, lambda line: None)
