"""Weights from a file in place of training: whose files, how they are billed, who starts from them, what is refused."""

import hashlib
from pathlib import Path

import pytest
import torch
import torchvision

from layerprune import cli
from layerprune.analysis.verify import verify
from layerprune.core.networks.build import build
from layerprune.core.networks.pretrained import load_pretrained, to_akamaster
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.networks.storage import read_weights
from layerprune.core.settings import ModelSettings
from layerprune.errors import LayerpruneError
from layerprune.suite import config, current, record
from layerprune.suite import run as running
from layerprune.system import paths
from layerprune.system.paths import RunKey

PRESET = """
training: {duration: 3ep, batch_size: 64, lr: 0.02}
finetune: {duration: 1ep}
datasets:
  digits:
    archs: {mlp-residual-4: {}}
    methods:
      dense: {}
      sss: {}
      magnitude: {settings: {keep: 2}}
"""
DENSE = RunKey("study", "digits", "mlp-residual-4", "dense", "default", 0)
MAGNITUDE = RunKey("study", "digits", "mlp-residual-4", "magnitude", "default", 0)
OTHER = RunKey("study", "digits", "mlp-residual-4", "sss", "default", 0)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path))
    monkeypatch.delenv("LAYERPRUNE_DATA", raising=False)
    write_preset(tmp_path, PRESET)
    return tmp_path


def write_preset(root: Path, text: str) -> None:
    (root / "config").mkdir(exist_ok=True)
    (root / "config" / "study.yaml").write_text(text)


def fresh(arch: str = "mlp-residual-4", shape: tuple[int, int, int] = (1, 28, 28), seed: int = 0) -> SectionedNetwork:
    return build(arch, shape, 10, torch.Generator().manual_seed(seed), ModelSettings())


def saved(folder: Path, content: object, name: str = "trained.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


def made(key: RunKey, weights: Path | None = None) -> record.Record:
    return running.run(key, "cpu", 1, lambda *_: None, lambda _: None, weights)


# --- whose files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [lambda state: state, lambda state: {"model": state, "epoch": 89}])
def test_torchvisions_weights_give_torchvisions_logits(tmp_path: Path, wrapped) -> None:
    theirs = torchvision.models.resnet18(num_classes=10).eval()
    ours = fresh("imagenet-resnet-18", (3, 64, 64)).eval()
    load_pretrained(ours, saved(tmp_path, wrapped(theirs.state_dict())))
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images))


def test_akamasters_and_this_packages_own_weights_are_taken(tmp_path: Path) -> None:
    trained = fresh("resnet-8", (3, 32, 32), seed=3)
    for content in (to_akamaster(trained), {"state_dict": to_akamaster(trained)}, trained.state_dict()):
        network = fresh("resnet-8", (3, 32, 32))
        load_pretrained(network, saved(tmp_path, content))
        for name, value in trained.state_dict().items():
            torch.testing.assert_close(network.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([1, 2], "holds no weights by name"),
        ({"epoch": 3}, "the checkpoint lacks 'conv1.weight'"),
        (torchvision.models.resnet18(num_classes=7).state_dict(), r"'fc.weight' is of shape \[7, 512\]"),
        ({"code": Path("/")}, "corrupt or not a file of tensors"),  # pickled objects stay unread
    ],
    ids=["list", "other names", "other classes", "pickled code"],
)
def test_what_does_not_fit_is_one_line_and_changes_nothing(tmp_path: Path, content: object, complaint: str) -> None:
    network = fresh("imagenet-resnet-18", (3, 64, 64))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    path = saved(tmp_path, content)
    with pytest.raises(LayerpruneError, match=complaint) as caught:
        load_pretrained(network, path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# --- runs -------------------------------------------------------------------------------------------------------


def test_a_dense_run_with_weights_is_these_weights(study: Path) -> None:
    trained = fresh(seed=7)
    path = saved(study, trained.state_dict())
    dense = made(DENSE, path)
    state = read_weights(paths.weights(DENSE))
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in state.items())
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    assert dense.details["pretrained"] == {"file": "trained.pth", "sha256": checksum, "billed": "as trained here"}
    assert dense.provenance.data_checksums["weights/trained.pth"] == checksum
    assert (dense.status, dense.steps_total, dense.resumed, dense.removed_step) == ("ok", 0, 0, [None] * 4)


def test_its_bill_is_that_of_the_presets_training(study: Path) -> None:
    trained = made(DENSE)
    read = made(DENSE, saved(study, fresh().state_dict()))
    assert read.train_macs == trained.train_macs > 0
    write_preset(study, PRESET.replace("3ep", "40it"))
    assert made(DENSE, saved(study, fresh().state_dict())).train_macs == 3 * 40 * 64 * read.macs


def test_scores_start_from_the_weights_that_they_are_given(study: Path) -> None:
    first = made(MAGNITUDE)
    path = saved(study, fresh(seed=7).state_dict())
    second = made(MAGNITUDE, path)
    dense = record.read(paths.record(DENSE))
    assert "pretrained" in dense.details
    assert second.provenance.parents[str(DENSE)] == dense.digest() != first.provenance.parents[str(DENSE)]
    assert second.details["scores"] != first.details["scores"]
    assert second.train_macs > dense.train_macs and sum(second.keep) == 2


def test_another_file_of_the_same_name_is_another_network(study: Path) -> None:
    path = saved(study, fresh(seed=7).state_dict())
    first = made(DENSE, path)
    assert made(DENSE, path).finished_at == first.finished_at  # up to date
    saved(study, fresh(seed=8).state_dict())
    assert made(DENSE, path).digest() != first.digest()


def test_a_preset_can_name_the_file_in_the_data_folder(study: Path) -> None:
    (study / "data").mkdir()
    path = saved(study / "data", fresh(seed=7).state_dict())
    given = made(DENSE, path)
    write_preset(study, PRESET.replace("dense: {}", "dense: {settings: {weights: trained.pth}}"))
    assert made(DENSE).finished_at == given.finished_at  # the same run, whoever names the file
    made(MAGNITUDE)
    preset = config.load_preset("study")
    assert current.is_current(preset, record.read(paths.record(MAGNITUDE)))
    assert [finding for finding in verify("study", "digits") if finding.where != str(OTHER) and finding.is_error] == []


def test_verify_tells_that_the_preset_does_not_know_of_the_weights(study: Path) -> None:
    made(DENSE, saved(study, fresh(seed=7).state_dict()))
    assert ("stale-config", str(DENSE)) in [(finding.kind, finding.where) for finding in verify("study", "digits")]


def test_a_method_that_trains_from_scratch_takes_no_weights(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    path = saved(study, fresh().state_dict())
    words = ["run", "--preset", "study", "--dataset", "digits", "--arch", "mlp-residual-4", "--weights", str(path)]
    for method, complaint in (("sss", "--weights: 'sss' does not start from the dense network"), ("dense", None)):
        monkeypatch.setattr("sys.argv", ["layerprune", *words, "--method", method])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == (2 if complaint else 0)
        assert (complaint or "") in capsys.readouterr().err


def test_a_missing_file_is_one_line(study: Path) -> None:
    with pytest.raises(LayerpruneError, match=r"nowhere.pth: no such file"):
        made(DENSE, study / "nowhere.pth")
