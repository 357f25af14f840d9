"""timm's networks: every residual section is found and may go, and what is left computes what closed gates did."""

import copy

import pytest
import torch
from networks import source
from torch import Tensor, nn

from layerprune.library.find_sections import find_sections
from layerprune.library.rewriting import Forward

timm = pytest.importorskip("timm", reason="timm is absent: pip install timm")

SMALL = {"img_size": 32}
DROPPING = {"drop_path_rate": 0.2}
FAMILIES: dict[str, tuple[int, dict]] = {
    "resnet18": (8, DROPPING),
    "resnet50": (16, {}),
    "resnext50_32x4d": (16, {}),
    "regnety_002": (13, DROPPING),
    "mobilenetv2_035": (10, {}),
    "mobilenetv3_small_050": (7, {}),
    "efficientnet_b0": (9, DROPPING),
    "convnext_atto": (12, {"ls_init_value": 0.5, **DROPPING}),
    "vit_tiny_patch16_224": (24, {"init_values": 0.5, **SMALL, **DROPPING}),
    "deit_tiny_patch16_224": (24, SMALL),
    "swin_tiny_patch4_window7_224": (24, {"img_size": 64, "window_size": 2, **DROPPING}),
}
"""Networks -> their residual sections, and options: what timm's own blocks have, stochastic depth and layer scale."""


def timms(name: str) -> tuple[nn.Module, Tensor]:
    """With norms that are not the identity and branches that are not zero, as a fresh network's may be."""
    torch.manual_seed(0)
    model, size = timm.create_model(name, num_classes=5, **FAMILIES[name][1]), FAMILIES[name][1].get("img_size", 64)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model, torch.randn(2, 3, size, size, generator=source(1))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_removed_section_of_timms_networks_computes_what_a_closed_gate_does(name: str) -> None:
    model, x = timms(name)
    attributes, before = set(vars(model)), copy.deepcopy(model.state_dict())
    found = find_sections(model, x)
    assert len(found) == len(found.removable) == FAMILIES[name][0]
    assert len({section.name for section in found}) == len(found)
    assert all(section.macs > 0 and section.params > 0 for section in found)
    assert set(vars(model)) == attributes and "forward" not in attributes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    reference, forward = model.eval()(x), Forward(found)
    forward.install()
    torch.testing.assert_close(model(x), reference)
    gone = torch.randperm(len(found), generator=source(2))[: len(found) // 2].tolist()
    for place in gone:
        forward.values[place] = torch.zeros(1, 1)
    closed = model(x)
    size = float(reference.detach().abs().max())  # some heads start small
    assert float((closed - reference).detach().abs().max()) > 0.01 * size
    forward.values[:] = [None] * len(found)
    forward.remove(gone)
    torch.testing.assert_close(model(x) / size, closed / size, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(forward.plain().eval()(x[:1]) / size, closed[:1] / size, atol=1e-5, rtol=1e-4)

    model.train()(x).square().sum().backward()
    assert all(each.grad is not None for each in model.parameters())


def test_stochastic_depth_works_in_training_alone() -> None:
    model, x = timms("convnext_atto")
    model = timm.create_model("convnext_atto", num_classes=5, drop_path_rate=0.9, ls_init_value=0.5)
    Forward(find_sections(model, x)).install()
    assert torch.equal(model.eval()(x), model(x)) and not torch.equal(model.train()(x), model(x))


def test_a_batch_norm_with_an_activation_counts_its_batches_in_training_alone() -> None:
    model, x = timms("regnety_002")
    Forward(find_sections(model, x)).install()
    for place in range(2):
        assert int(model.stem.bn.num_batches_tracked) == place
        model.train()(x)
        model.eval()(x)
