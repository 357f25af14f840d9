"""ONNX files compute what the network does, at every batch size, and are not written where they would not."""

import sys
from pathlib import Path

import pytest
import torch
import torchvision
from networks import IMAGE, enliven, images, source
from torch import Tensor, nn
from torch.nn import functional

import layerprune
from layerprune import cli
from layerprune.core import surgery
from layerprune.core.networks import storage
from layerprune.core.networks.build import build
from layerprune.core.settings import ModelSettings
from layerprune.errors import LayerpruneError
from layerprune.library import onnx_files
from layerprune.system import paths

onnx = pytest.importorskip("onnx")


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


def own() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 16), Block(16), Block(16), Block(16), nn.Linear(16, 10))


def resnet18() -> nn.Module:
    return torchvision.models.resnet18(num_classes=10)


def pruned(model: nn.Module, depth: int, shape: tuple[int, ...]) -> nn.Module:
    """What four steps with ConcurrentPruner leave of a model."""
    sections = layerprune.find_sections(model, torch.zeros(2, *shape))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    pruner = layerprune.ConcurrentPruner(
        model, sections, optimizer, total_steps=4, target_depth=depth, warmup_steps=0, check_interval=1
    )
    for _ in range(4):
        functional.cross_entropy(model.train()(images(4, shape)), torch.arange(4)).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    assert pruner.removed
    return pruner.export()


def outputs(path: Path, x: Tensor) -> Tensor:
    (found,) = onnx_files.run(onnx_files.session(path), x)
    return found


@pytest.mark.parametrize(("make_model", "depth", "shape"), [(own, 1, (3, 4, 4)), (resnet18, 3, (3, 32, 32))])
def test_a_pruned_network_computes_the_same_in_onnxruntime(make_model, depth: int, shape, tmp_path: Path) -> None:
    torch.manual_seed(0)
    smaller = pruned(make_model(), depth, shape)
    layerprune.save(smaller, tmp_path / "smaller.onnx", torch.zeros(1, *shape))
    assert [path.name for path in tmp_path.iterdir()] == ["smaller.onnx"]
    for size in (1, 2, 7):
        x = images(size, shape)
        with torch.no_grad():
            torch.testing.assert_close(outputs(tmp_path / "smaller.onnx", x), smaller.eval()(x), atol=1e-4, rtol=1e-4)


def test_the_module_keeps_its_mode_and_the_batch_its_name(tmp_path: Path) -> None:
    model = own().train()
    layerprune.save(model, tmp_path / "own.onnx", torch.zeros(1, 3, 4, 4))
    assert all(part.training for part in model.modules())
    graph = onnx.load(tmp_path / "own.onnx").graph
    assert [each.name for each in (*graph.input, *graph.output)] == ["input", "output"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_a_program_that_was_loaded_can_be_saved_as_onnx_too(tmp_path: Path) -> None:
    model = own()
    layerprune.save(model, tmp_path / "own.pt2", torch.zeros(1, 3, 4, 4))
    layerprune.save(layerprune.load(tmp_path / "own.pt2"), tmp_path / "own.onnx", torch.zeros(1, 3, 4, 4))
    x = images(5, (3, 4, 4))
    torch.testing.assert_close(outputs(tmp_path / "own.onnx", x), model(x).detach())


class Words(nn.Module):
    """Indices in, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.table(x)
        return found.mean(1), found.sum(1)


def test_inputs_may_be_indices_and_outputs_several(tmp_path: Path) -> None:
    model, x = Words(), torch.tensor([[1, 10, 3], [0, 2, 2]])
    layerprune.save(model, tmp_path / "words.onnx", x)
    found = onnx_files.run(onnx_files.session(tmp_path / "words.onnx"), x)
    torch.testing.assert_close(found, [each.detach() for each in model(x)])


# --- of a run ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arch", "shape"), [("mlp-residual-4", IMAGE), ("resnet-20", (3, 32, 32))])
def test_the_command_exports_what_is_left_of_a_run(
    arch: str, shape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ModelSettings(width=8) if arch == "resnet-20" else ModelSettings()
    network = enliven(build(arch, shape, 10, source(0), settings))
    surgery.remove(network, [1, 3])
    storage.save(network, paths.arch_in(tmp_path), paths.weights_in(tmp_path))
    monkeypatch.setattr(sys, "argv", ["layerprune", "export", str(tmp_path), "--format", "onnx"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0 and capsys.readouterr().out == f"{tmp_path / 'network.onnx'}\n"
    x = images(3, shape)
    with torch.no_grad():
        torch.testing.assert_close(outputs(tmp_path / "network.onnx", x), network(x), atol=1e-4, rtol=1e-4)


# --- what goes wrong --------------------------------------------------------------------------------------------


def complaint(model: nn.Module, path: Path) -> str:
    with pytest.raises(LayerpruneError) as caught:
        layerprune.save(model, path, torch.zeros(1, 3, 4, 4))
    assert "\n" not in str(caught.value) and not path.exists()
    return str(caught.value)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_packages_one_line_says_how_to_get_them(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    told = complaint(own(), tmp_path / "own.onnx")
    assert told == f"ONNX needs the package {package}: pip install onnx onnxscript onnxruntime"


def test_a_file_with_other_numbers_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = onnx_files.as_bytes
    monkeypatch.setattr(onnx_files, "as_bytes", lambda model, example: right(own(), example))  # with other weights
    told = complaint(own(), tmp_path / "own.onnx")
    assert "own.onnx: not written: onnxruntime and Sequential differ for a batch of 1, by" in told


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_followed_is_one_line(tmp_path: Path) -> None:
    assert complaint(Branching(), tmp_path / "b.onnx").startswith("Branching: cannot be exported by torch.export: ")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(LayerpruneError, match=r"x\.onnx: not accepted by onnxruntime: "):
        onnx_files.session(tmp_path / "x.onnx")
