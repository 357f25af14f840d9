"""The callback of Lightning's Trainer: sections leave, checkpoints resume exactly, whatever feeds the gradients."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from layerprune.errors import LayerpruneError

lightning = pytest.importorskip("lightning", reason="Lightning is absent: pip install lightning")

from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402
from lightning.pytorch.loggers import CSVLogger  # noqa: E402
from lightning.pytorch.plugins.precision import MixedPrecision  # noqa: E402

from layerprune.library.integrations.lightning import PruneLayers  # noqa: E402

EXAMPLE = torch.zeros(2, 1, 28, 28)
OPTIONS = {"nu": 0.05, "theta_lr": 2.0, "warmup_steps": 5, "check_interval": 5}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


def network(width: int = 16) -> nn.Sequential:
    blocks = [Block(width) for _ in range(4)]
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, width), nn.ReLU(), *blocks, nn.Linear(width, 10))


class Digits(lightning.LightningModule):
    """As people write them: the network is an attribute, and there is a scheduler."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = network()

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return functional.cross_entropy(self.net(batch[0]), batch[1])

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self.log("loss", functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=3e-3)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)}


class Whole(Digits):
    """Of several parts, so that the sections are those of the LightningModule."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = self.net[:-1], self.net[-1]
        del self.net

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def batches(size: int = 64, count: int = 640) -> DataLoader:
    data = digits().train
    return DataLoader(TensorDataset(data.images[:count].float() / 255, data.labels[:count]), batch_size=size)


def fit(module: lightning.LightningModule, prune: PruneLayers, folder: Path, **options: Any) -> lightning.Trainer:
    """Six epochs on ten batches; `resume` is a checkpoint to go on from."""
    resume, size = options.pop("resume", None), options.pop("size", 64)
    callbacks = [prune, *options.pop("callbacks", [])]
    values = {"max_epochs": 6, "accelerator": "cpu", "logger": False, "enable_checkpointing": False} | options
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(callbacks=callbacks, default_root_dir=folder, **quiet, **values)
        trainer.fit(module, batches(size), ckpt_path=resume)
    return trainer


def saving(folder: Path) -> dict[str, Any]:
    saver = ModelCheckpoint(folder, "{epoch}", save_top_k=-1, every_n_epochs=1)
    return {"callbacks": [saver], "enable_checkpointing": True}


@pytest.mark.parametrize("kind", [Digits, Whole])
def test_sections_leave_the_network_of_a_lightning_module(kind: type, tmp_path: Path) -> None:
    module, prune = kind(), PruneLayers(EXAMPLE, target_depth=2, theta_lr=1.0, check_interval=5)
    trainer = fit(module, prune, tmp_path, max_epochs=12)
    assert len(prune.pruner.removed) == 2 and prune.pruner.consolidated
    held = {id(each) for group in trainer.optimizers[0].param_groups for each in group["params"]}
    assert held == {id(each) for each in module.parameters()}
    x, y = next(iter(batches(640)))
    smaller, trained = prune.export().eval(), module.eval()
    torch.testing.assert_close(smaller(x), trained.net(x) if kind is Digits else trained(x))
    assert float((smaller(x).argmax(1) == y).float().mean()) > 0.5  # chance is 0.1


class Cast(Digits):
    """Takes images in any precision."""

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return functional.cross_entropy(self.net(batch[0].to(self.dtype)).float(), batch[1])


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_the_trainer_may_cast_the_network_after_its_sections_were_found(precision: str, tmp_path: Path) -> None:
    prune = PruneLayers(EXAMPLE, target_depth=2, theta_lr=1.0, check_interval=5)
    fit(Cast(), prune, tmp_path, precision=precision)
    assert prune.pruner.report().after.sections == 2
    assert next(prune.export().parameters()).dtype != torch.float32


class Choosy(Digits):
    """Skips every third batch, before or after the network has seen it."""

    looks = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor | None:
        loss = super().training_step(batch) if self.looks or batch_idx % 3 else None
        return loss if batch_idx % 3 else None


class Looking(Choosy):
    looks = True


@pytest.mark.parametrize("kind", [Choosy, Looking])
@pytest.mark.parametrize(("accumulated", "steps"), [(1, 36), (2, 30)])
def test_a_batch_that_the_training_step_skips_is_no_step(
    kind: type, accumulated: int, steps: int, tmp_path: Path
) -> None:
    prune = PruneLayers(EXAMPLE, target_depth=2, theta_lr=1.0, check_interval=5, total_steps=30)
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=1)
    options = {"callbacks": [saver], "enable_checkpointing": True, "accumulate_grad_batches": accumulated}
    fit(kind(), prune, tmp_path, **options)
    assert prune.pruner._steps == steps and len(prune.pruner.removed) == 2


class Passing(Digits):
    """Leaves the network out of its loss, by mistake."""

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return self.net[1].weight.square().mean()


def test_a_loss_that_is_not_of_the_network_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LayerpruneError, match="step: no forward pass in training mode since the last step"):
        fit(Passing(), PruneLayers(EXAMPLE, **OPTIONS), tmp_path)


@pytest.mark.parametrize("epochs", [1, 2, 4], ids=["undecided", "on the way", "all decided"])
def test_a_checkpoint_goes_on_exactly_as_if_nothing_had_happened(epochs: int, tmp_path: Path) -> None:
    whole, first = Digits(), PruneLayers(EXAMPLE, **OPTIONS)
    fit(whole, first, tmp_path, **saving(tmp_path))
    saved = tmp_path / f"epoch={epochs - 1}.ckpt"
    gone = torch.load(saved, weights_only=True)["callbacks"]["PruneLayers"]["alive"].count(False)
    assert (gone == 0 or epochs > 1) and (gone > 0 or epochs < 4) and len(first.pruner.removed) > 0
    again, second = Digits(), PruneLayers(EXAMPLE, **OPTIONS)
    fit(again, second, tmp_path, resume=saved)
    assert second.pruner.removed == first.pruner.removed and second.pruner.theta == first.pruner.theta
    state = again.state_dict()
    assert state.keys() == whole.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())


def test_a_checkpoint_is_tested_in_a_module_that_is_whole(tmp_path: Path) -> None:
    whole, prune = Digits(), PruneLayers(EXAMPLE, **OPTIONS)
    trained = fit(whole, prune, tmp_path, **saving(tmp_path))
    (expected,) = trained.test(whole, batches(), verbose=False)
    again = Digits()
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    trainer = lightning.Trainer(
        callbacks=[PruneLayers(EXAMPLE, **OPTIONS)], accelerator="cpu", default_root_dir=tmp_path, **quiet
    )
    (found,) = trainer.test(again, batches(), ckpt_path=tmp_path / "epoch=5.ckpt", verbose=False)
    assert found == expected and again.state_dict().keys() == whole.state_dict().keys()


def test_a_budget_of_measured_latency_is_that_of_the_start_in_a_checkpoint_too(tmp_path: Path) -> None:
    # High enough for a busy machine, on which stem and head may seem to take most of the time.
    options = {"target_latency": 0.8, "theta_lr": 2.0, "warmup_steps": 5, "check_interval": 5}
    whole, first = Digits(), PruneLayers(EXAMPLE, **options)
    fit(whole, first, tmp_path, **saving(tmp_path))
    assert not all(torch.load(tmp_path / "epoch=3.ckpt", weights_only=True)["callbacks"]["PruneLayers"]["alive"])
    again, second = Digits(), PruneLayers(EXAMPLE, **options)
    fit(again, second, tmp_path, resume=tmp_path / "epoch=3.ckpt")
    assert second.pruner.removed == first.pruner.removed
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_a_checkpoint_that_lacks_weights_for_another_reason_is_refused(tmp_path: Path) -> None:
    fit(Digits(), PruneLayers(EXAMPLE, **OPTIONS), tmp_path, **saving(tmp_path))
    saved = torch.load(tmp_path / "epoch=3.ckpt", weights_only=True)
    del saved["callbacks"]["PruneLayers"]
    torch.save(saved, tmp_path / "stripped.ckpt")
    with pytest.raises(LayerpruneError, match=r"lacks the weights of section '\d', which has not been removed"):
        fit(Digits(), PruneLayers(EXAMPLE, **OPTIONS), tmp_path, resume=tmp_path / "stripped.ckpt")


@pytest.mark.parametrize("way", ["accumulated", "bf16-mixed", "16-mixed"])
def test_gates_learn_the_same_however_the_gradients_come(way: str, tmp_path: Path) -> None:
    """Batches of 64 in halves, in bfloat16, and with a scaled loss: the same sections leave, theta moves alike."""
    plain = PruneLayers(EXAMPLE, **OPTIONS, consolidate_at=1.0)
    module = Digits()
    fit(module, plain, tmp_path, max_epochs=2)
    options: dict[str, Any] = {"max_epochs": 2}
    if way == "accumulated":
        options |= {"size": 32, "accumulate_grad_batches": 2}
    elif way == "bf16-mixed":
        options |= {"precision": "bf16-mixed"}
    else:
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        options |= {"plugins": [_Scaled("16-mixed", "cpu", scaler)]}
    other = PruneLayers(EXAMPLE, **OPTIONS, consolidate_at=1.0)
    trainer = fit(Digits(), other, tmp_path, **options)
    assert other.pruner._steps == plain.pruner._steps == trainer.global_step == 20
    delta = other.pruner._method.estimator.delta()
    torch.testing.assert_close(delta, plain.pruner._method.estimator.delta(), atol=0.04, rtol=0.2)


class _Scaled(MixedPrecision):
    """Gradient scaling where there is no half precision: on a CPU."""

    def autocast_context_manager(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16)


def test_what_is_left_is_logged(tmp_path: Path) -> None:
    prune = PruneLayers(EXAMPLE, target_depth=1, theta_lr=1.0, check_interval=5)
    fit(Digits(), prune, tmp_path, logger=CSVLogger(tmp_path, name="", version=""))
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    assert float(rows[0]["layerprune/sections"]) == 4 and float(rows[-1]["layerprune/sections"]) == 1
    assert float(rows[-1]["layerprune/macs"]) == sum(
        each.weight.numel() for each in prune.export().modules() if isinstance(each, nn.Linear)
    )


class Two(Digits):
    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(self.net[0:4].parameters(), 0.1), torch.optim.SGD(self.net[4:].parameters(), 0.1)]

    automatic_optimization = False


@pytest.mark.parametrize(
    ("module", "options", "trainer", "complaint"),
    [
        (Digits, {}, {}, "give one of nu, target_macs, target_params, "),
        (Digits, {"nu": 0.1, "network": "body"}, {}, "PruneLayers: Digits has no module 'body'; it has net"),
        (Two, {"nu": 0.1}, {}, "PruneLayers: needs one optimizer, the module has 2"),
        (Digits, {"nu": 0.1}, {"max_epochs": -1}, "PruneLayers: the length of training is unknown"),
    ],
)
def test_a_mistake_is_one_line_before_the_first_step(
    module: type, options: dict, trainer: dict, complaint: str, tmp_path: Path
) -> None:
    made = module()
    before = copy.deepcopy(made.state_dict())
    with pytest.raises(LayerpruneError, match=complaint):
        fit(made, PruneLayers(EXAMPLE, **options), tmp_path, **trainer)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert "forward" not in made.net.__dict__ and not made.net._forward_pre_hooks


def test_an_export_before_training_and_a_second_training_are_refused(tmp_path: Path) -> None:
    prune = PruneLayers(EXAMPLE, nu=0.1)
    with pytest.raises(LayerpruneError, match=r"export: nothing has been trained yet: call trainer.fit first"):
        prune.export()
    fit(Digits(), prune, tmp_path, max_epochs=1)
    with pytest.raises(LayerpruneError, match="PruneLayers: one callback serves one training"):
        fit(Digits(), prune, tmp_path, max_epochs=1)
