"""The callback of Hugging Face's Trainer, on its own models with random weights, and on a module of somebody's own."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import digits, source
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

import layerprune
from layerprune.errors import LayerpruneError
from layerprune.library.find_sections import find_sections
from layerprune.library.rewriting import Forward

transformers = pytest.importorskip("transformers", reason="Transformers is absent: pip install transformers accelerate")
pytest.importorskip("accelerate", reason="Accelerate is absent: pip install transformers accelerate")

from transformers import TrainerState  # noqa: E402

from layerprune.library.integrations.transformers import PruneLayers, _unpacked  # noqa: E402

EXAMPLE = torch.zeros(2, 1, 28, 28)
OPTIONS = {"nu": 0.05, "theta_lr": 2.0, "warmup_steps": 5, "check_interval": 5}
TRANSFORMER = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
STAGES = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 2, 1, 1]}
FAMILIES: dict[str, tuple[int, dict]] = {
    "ViT": (6, TRANSFORMER),
    "Dinov2": (6, {**TRANSFORMER, "drop_path_rate": 0.1, "layerscale_value": 0.5}),
    "Beit": (6, {**TRANSFORMER, "layer_scale_init_value": 0.5, "drop_path_rate": 0.1}),
    "Swin": (
        6,
        {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 2], "num_heads": [2, 2], "window_size": 4},
    ),
    "ConvNext": (
        5,
        {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 2, 1, 1], "drop_path_rate": 0.1, "layer_scale_init_value": 0.5},
    ),
    "ResNet": (5, {**STAGES, "layer_type": "basic"}),
    "RegNet": (5, {**STAGES, "groups_width": 8}),
    "MobileNetV2": (10, {"depth_multiplier": 0.35}),
}
"""Transformers' models of images -> their residual sections, and their configuration."""


def let_signals_through(model: nn.Module, x: Tensor) -> None:
    """Batch norms take up the statistics of what they get."""
    norms = [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
        norm.running_var.clamp_(min=1e-3)
    model.eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_section_of_transformers_models_of_images_is_found_and_may_go(name: str) -> None:
    torch.manual_seed(0)
    count, settings = FAMILIES[name]
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**settings)).eval()
    before, x = set(vars(model)), torch.randn(3, 3, 32, 32, generator=source(1))
    let_signals_through(model, x)
    found = find_sections(model, x[:1])
    assert len(found) == len(found.removable) == count and set(vars(model)) == before
    reference, forward = model(x), Forward(found)
    forward.install()
    assert type(model(x)) is type(reference)
    torch.testing.assert_close(model(pixel_values=x)[0], reference[0])
    gone = torch.randperm(count, generator=source(2))[: count // 2].tolist()
    for place in gone:
        forward.values[place] = torch.zeros(1, 1)
    closed = model(x)[0]
    size = float(reference[0].detach().abs().max())
    assert float((closed - reference[0]).detach().abs().max()) > 0.01 * size
    forward.values[:] = [None] * count
    forward.remove(gone)
    torch.testing.assert_close(model(x)[0] / size, closed / size, atol=1e-5, rtol=1e-4)
    assert model(x, output_hidden_states=True).hidden_states is not None  # the model's own arguments stay


class Own(nn.Module):
    """A module of somebody's own, in the form that the Trainer takes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        blocks = [Block(16) for _ in range(4)]
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 16), nn.ReLU(), *blocks, nn.Linear(16, 10))

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.net(pixel_values)
        return (
            {"loss": functional.cross_entropy(logits, labels), "logits": logits}
            if labels is not None
            else {"logits": logits}
        )


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


def test_a_stage_may_lose_all_layers_though_its_class_cannot_do_without(tmp_path: Path) -> None:
    """The code of Hiera's stages returns what their last layer put out."""

    def made() -> nn.Module:
        options = {"image_size": [64, 64], "embed_dim": 16, "depths": [1, 2, 1, 1], "num_heads": [1, 1, 2, 2]}
        return transformers.HieraModel(transformers.HieraConfig(**options)).eval()

    model, example = made(), {"pixel_values": torch.randn(2, 3, 64, 64)}
    gone = [each.name for each in find_sections(model, example) if ".stages.0." in each.name]
    with pytest.warns(UserWarning, match="its configuration cannot express which layers were removed"):
        layerprune.remove(model, gone, example)
    assert len(gone) == 2 and not any(".stages.0." in each.name for each in find_sections(model, example))
    layerprune.save(model, tmp_path / "x.safetensors")
    read = layerprune.load(tmp_path / "x.safetensors", into=made()).eval()
    assert torch.equal(read(**example)[0], model(**example)[0])


def vit() -> nn.Module:
    torch.manual_seed(0)
    sizes = {**TRANSFORMER, "hidden_size": 16, "intermediate_size": 32, "image_size": 28, "patch_size": 7}
    dropout = {"hidden_dropout_prob": 0.1}
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(**sizes, **dropout, num_channels=1, num_labels=10)
    )


def resnet() -> nn.Module:
    torch.manual_seed(0)
    settings = {**STAGES, "layer_type": "basic", "num_channels": 1, "num_labels": 10}
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(**settings))


MODELS = {"own": Own, "ViT": vit, "ResNet": resnet}


def test_a_model_with_its_loss_is_pruned_with_its_head() -> None:
    model, labels = vit().eval(), torch.zeros(2, dtype=torch.long)
    loss = model(EXAMPLE, labels=labels).loss
    Forward(find_sections(model, EXAMPLE)).install()
    assert torch.equal(model(EXAMPLE, labels=labels).loss, loss)


class Digits(Dataset):
    def __init__(self, count: int = 640) -> None:
        data = digits().train
        self.images, self.labels = data.images[:count].float() / 255, data.labels[:count]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return {"pixel_values": self.images[place], "labels": self.labels[place]}


def trainer_of(model: nn.Module, prune: PruneLayers, folder: Path, **options: Any) -> "transformers.Trainer":
    """Four epochs of ten steps; theta is rounded after half of them."""
    values = {
        "num_train_epochs": 4,
        "per_device_train_batch_size": 64,
        "learning_rate": 1e-2,
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    } | options
    arguments = transformers.TrainingArguments(str(folder), **values)
    return transformers.Trainer(model, arguments, train_dataset=Digits(), eval_dataset=Digits(64), callbacks=[prune])


@pytest.mark.parametrize("name", MODELS)
def test_sections_leave_a_model_that_the_trainer_trains(name: str, tmp_path: Path) -> None:
    model, prune = MODELS[name](), PruneLayers(EXAMPLE, target_depth=2, theta_lr=1.0, check_interval=5)
    trainer = trainer_of(model, prune, tmp_path)
    sections = len(prune._attached.sections)
    trainer.train()
    assert sections - len(prune.pruner.removed) == 2 and prune.pruner.consolidated
    held = {id(each) for group in trainer.optimizer.param_groups for each in group["params"]}
    assert held == {id(each) for each in model.parameters()}
    history = [entry["layerprune/sections"] for entry in trainer.state.log_history]
    assert history[0] == sections and history[-1] == 2

    x = digits().train.images[:5].float() / 255
    smaller, logits = prune.export(), model.eval()(pixel_values=x)["logits"]
    torch.testing.assert_close(smaller(x), logits)
    assert not any(each is other for each in smaller.parameters() for other in model.parameters())
    layerprune.save(smaller, tmp_path / "smaller.pt2", x[:1])
    torch.testing.assert_close(layerprune.load(tmp_path / "smaller.pt2")(x), logits)


@pytest.mark.parametrize(("name", "steps"), [("own", 10), ("own", 20), ("own", 35), ("ViT", 20)])
def test_a_checkpoint_goes_on_exactly_as_if_nothing_had_happened(name: str, steps: int, tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 5}
    whole, first = MODELS[name](), PruneLayers(EXAMPLE, **OPTIONS)
    trainer_of(whole, first, tmp_path, **saving).train()
    saved = TrainerState.load_from_json(str(tmp_path / f"checkpoint-{steps}" / "trainer_state.json"))
    alive = _unpacked(saved.stateful_callbacks["PruneLayers"]["attributes"]["saved"])["alive"]
    assert all(alive) == (steps == 10)
    again, second = MODELS[name](), PruneLayers(EXAMPLE, **OPTIONS)
    trainer_of(again, second, tmp_path, **saving).train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{steps}"))
    assert second.pruner.removed == first.pruner.removed and second.pruner.theta == first.pruner.theta
    assert len(first.pruner.removed) > 0
    state = again.state_dict()
    assert state.keys() == whole.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize("way", [{"gradient_accumulation_steps": 2, "per_device_train_batch_size": 32}, {"bf16": True}])
def test_gates_learn_the_same_however_the_gradients_come(way: dict, tmp_path: Path) -> None:
    deltas = []
    for options in ({}, way):
        prune = PruneLayers(EXAMPLE, **OPTIONS, consolidate_at=1.0)
        trainer_of(Own(), prune, tmp_path, num_train_epochs=2, **options).train()
        assert prune.pruner._steps == 20
        deltas.append(prune.pruner._method.estimator.delta())
    torch.testing.assert_close(*deltas, atol=0.04, rtol=0.2)


@pytest.mark.parametrize(
    ("prune", "options", "complaint"),
    [
        ({}, {}, "give one of nu, target_macs, target_params, "),
        ({"nu": 0.1, "network": "body"}, {}, "PruneLayers: Own has no module 'body'; it has net"),
        ({"nu": 0.1}, {"restore_callback_states_from_checkpoint": True}, "reads its own state from checkpoints"),
        (
            {"nu": 0.1},
            {"load_best_model_at_end": True, "save_strategy": "epoch", "eval_strategy": "epoch"},
            "load_best_model_at_end would load weights from before removals into the smaller model",
        ),
    ],
)
def test_a_mistake_is_one_line_before_the_first_step(
    prune: dict, options: dict, complaint: str, tmp_path: Path
) -> None:
    model = Own()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(LayerpruneError, match=complaint):
        trainer_of(model, PruneLayers(EXAMPLE, **prune), tmp_path, **options).train()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "forward" not in model.net.__dict__ and not model.net._forward_pre_hooks


def test_a_callback_that_came_late_or_has_served_is_refused(tmp_path: Path) -> None:
    prune = PruneLayers(EXAMPLE, nu=0.1)
    with pytest.raises(LayerpruneError, match=r"export: nothing has been trained yet: call trainer.train first"):
        prune.export()
    trainer = trainer_of(Own(), prune, tmp_path, max_steps=3)
    trainer.train()
    with pytest.raises(LayerpruneError, match="PruneLayers: one callback serves one training"):
        trainer.train()
    late = trainer_of(Own(), PruneLayers(EXAMPLE, nu=0.1), tmp_path, max_steps=3)
    late.add_callback(PruneLayers(EXAMPLE, nu=0.1))
    with pytest.raises(LayerpruneError, match="PruneLayers: pass it to the Trainer's constructor"):
        late.train()
