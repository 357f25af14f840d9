"""Multiply-adds that torch's counter leaves out: fused attention, recurrent layers, groups, rare products."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import rnn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import DeformConv2d
from zoo.catalog import zoo

import layerprune
from layerprune.library.examples import call
from layerprune.library.latency.engines import MeasuredModel
from layerprune.library.multiply_adds import MultiplyAdds
from layerprune.library.network_files import in_evaluation

INTO, WIDTH, STEPS, EXAMPLES = 5, 7, 11, 3
KINDS = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}
"""Matrices of a layer."""


def in_a_layer(kind: type[nn.RNNBase], into: int = INTO) -> int:
    """By hand: of one example, of one direction."""
    return STEPS * KINDS[kind] * WIDTH * (into + WIDTH)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_recurrent_layer_is_counted(kind: type[nn.RNNBase], grad: bool) -> None:
    layer = kind(INTO, WIDTH)
    with torch.set_grad_enabled(grad), MultiplyAdds() as counter:
        layer(torch.randn(STEPS, EXAMPLES, INTO))
    assert counter.total == EXAMPLES * in_a_layer(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_of_several_layers_in_both_directions_all_are_counted(kind: type[nn.RNNBase]) -> None:
    layer = kind(INTO, WIDTH, num_layers=2, bidirectional=True, batch_first=True, bias=False)
    with MultiplyAdds() as counter:
        layer(torch.randn(EXAMPLES, STEPS, INTO))
    assert counter.total == EXAMPLES * 2 * (in_a_layer(kind) + in_a_layer(kind, 2 * WIDTH))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_a_projection_is_counted() -> None:
    with MultiplyAdds() as counter:
        nn.LSTM(INTO, WIDTH, proj_size=2)(torch.randn(STEPS, EXAMPLES, INTO))
    assert counter.total == EXAMPLES * STEPS * (4 * WIDTH * (INTO + 2) + 2 * WIDTH)


@pytest.mark.parametrize("kind", KINDS)
def test_of_sequences_of_several_lengths_only_their_steps_are_counted(kind: type[nn.RNNBase]) -> None:
    packed = rnn.pack_sequence([torch.randn(STEPS, INTO), torch.randn(2, INTO)])
    with MultiplyAdds() as counter:
        kind(INTO, WIDTH)(packed)
    assert counter.total == in_a_layer(kind) * (STEPS + 2) // STEPS


@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_s_recurrent_layers_are_counted_alike(kind: type[nn.RNNBase]) -> None:
    """Its operation on tensors without numbers, which need no GPU."""
    layer = kind(INTO, WIDTH, num_layers=2, bidirectional=True, device="meta")
    mode = {nn.LSTM: 2, nn.GRU: 3, nn.RNN: 1}[kind]
    state = torch.zeros(4, EXAMPLES, WIDTH, device="meta")
    steps = torch.zeros(STEPS, EXAMPLES, INTO, device="meta")
    given = (steps, layer._flat_weights, 4, None, state, state if kind is nn.LSTM else None)
    with MultiplyAdds() as counter:
        torch.ops.aten._cudnn_rnn(*given, mode, WIDTH, 0, 2, False, 0.0, True, True, [], None)
    assert counter.total == EXAMPLES * 2 * (in_a_layer(kind) + in_a_layer(kind, 2 * WIDTH))


class Expanded(nn.Module):
    """Hands an expanded weight to a layer, as networks do with the token of a class."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.layer = nn.Parameter(torch.randn(1, WIDTH)), nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.layer(self.token.expand(len(x), -1))


def test_a_model_that_hands_a_weight_to_a_layer_is_counted() -> None:
    assert MeasuredModel("x", Expanded(), (WIDTH,)).macs == 2 * 2 * WIDTH


class Recurrent(nn.Module):
    """x + a recurrent layer's output."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.norm, self.layer = nn.LayerNorm(WIDTH), kind(WIDTH, WIDTH, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(self.norm(x))[0]


def network(kind: type[nn.RNNBase], depth: int = 4) -> nn.Module:
    return nn.Sequential(*(Recurrent(kind) for _ in range(depth)), nn.Linear(WIDTH, 2))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_recurrent_section_costs_what_its_layer_does(kind: type[nn.RNNBase], frozen: bool) -> None:
    model, example = network(kind).requires_grad_(not frozen), torch.randn(EXAMPLES, STEPS, WIDTH)
    sections = layerprune.find_sections(model, example)
    assert [each.macs for each in sections] == 4 * [in_a_layer(kind, WIDTH)]
    assert sections.macs == 4 * in_a_layer(kind, WIDTH) + STEPS * WIDTH * 2
    assert MeasuredModel("x", model, example.shape[1:]).macs == sections.macs


def test_a_share_of_the_multiply_adds_of_recurrent_sections_can_be_kept() -> None:
    torch.manual_seed(0)
    model, x = network(nn.LSTM), torch.randn(EXAMPLES, STEPS, WIDTH)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sections = layerprune.find_sections(model, x)
    pruner = layerprune.ConcurrentPruner(model, sections, optimizer, total_steps=12, target_macs=0.6)
    for _ in range(12):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        pruner.step()
    assert layerprune.find_sections(pruner.export(), x).macs == 2 * in_a_layer(nn.LSTM, WIDTH) + STEPS * WIDTH * 2


# --- attention ------------------------------------------------------------------------------------------------------

HEADS, KEYS, SIZE, VALUES = 4, 6, 8, 3


def attended(heads: int = HEADS, values: int = SIZE, device: str = "cpu", **given: object) -> int:
    shapes = (HEADS, STEPS, SIZE), (heads, KEYS, SIZE), (heads, KEYS, values)
    q, k, v = (torch.zeros(EXAMPLES, *shape, device=device) for shape in shapes)
    with MultiplyAdds() as counter:
        functional.scaled_dot_product_attention(q, k, v, **given)
    return counter.total


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
@pytest.mark.parametrize(
    "given",
    [{}, {"is_causal": True}, {"attn_mask": torch.zeros(STEPS, KEYS)}, {"heads": 2, "enable_gqa": True}],
    ids=str,
)
def test_both_products_of_attention_are_counted_whoever_computes_it(backend: SDPBackend, given: dict) -> None:
    with sdpa_kernel(backend):
        assert attended(**given) == EXAMPLES * HEADS * STEPS * KEYS * 2 * SIZE


def test_values_may_have_another_size_than_keys() -> None:
    assert attended(values=VALUES) == EXAMPLES * HEADS * STEPS * KEYS * (SIZE + VALUES)


@pytest.mark.parametrize("name", ["flash", "efficient", "cudnn"])
@pytest.mark.parametrize("heads", [HEADS, 2])
def test_a_gpu_s_attention_is_counted_alike(name: str, heads: int) -> None:
    """Its operations on tensors without numbers, which need no GPU."""
    shapes = (HEADS, STEPS, SIZE), (heads, KEYS, SIZE), (heads, KEYS, SIZE)
    given = (torch.zeros(EXAMPLES, *shape, device="meta", dtype=torch.float16) for shape in shapes)
    more = {"flash": (), "efficient": (None, True), "cudnn": (None, True)}[name]
    with MultiplyAdds() as counter:
        getattr(torch.ops.aten, f"_scaled_dot_product_{name}_attention")(*given, *more)
    assert counter.total == EXAMPLES * HEADS * STEPS * KEYS * 2 * SIZE


@pytest.mark.parametrize("norm_first", [False, True])
def test_torch_s_transformer_layers_are_counted_in_evaluation_too(norm_first: bool) -> None:
    """Where they would take their fast path."""
    layer = nn.TransformerEncoderLayer(SIZE, 2, 20, norm_first=norm_first, batch_first=True)
    model, fast = nn.Sequential(layer, nn.Linear(SIZE, 2)), torch.backends.mha.get_fastpath_enabled()
    products = STEPS * (4 * SIZE * SIZE + 2 * 20 * SIZE) + 2 * STEPS * STEPS * SIZE + STEPS * SIZE * 2
    assert MeasuredModel("x", model.eval(), (STEPS, SIZE)).macs == products
    assert layerprune.find_sections(model, torch.randn(2, STEPS, SIZE)).macs == products
    assert torch.backends.mha.get_fastpath_enabled() == fast


# --- groups ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((24, 16), (3, 16, 32), 24 * 16 * 32),  # of rows, as experts have them
        ((3, 8, 16), (16, 48), 8 * 16 * 48),  # of columns
        ((8, 48), (48, 32), 8 * 48 * 32),  # of what is summed over
        ((3, 8, 16), (3, 16, 32), 3 * 8 * 16 * 32),
    ],
    ids=str,
)
def test_products_of_groups_are_counted(first: tuple[int, ...], second: tuple[int, ...], expected: int) -> None:
    one, other = (torch.zeros(shape, device="meta", dtype=torch.bfloat16) for shape in (first, second))
    ends = None if len(first) == len(second) == 3 else torch.zeros(3, device="meta", dtype=torch.int32)
    with MultiplyAdds() as counter:
        torch.ops.aten._grouped_mm(one, other, ends)
    assert counter.total == expected


def test_transformers_own_products_of_groups_are_counted() -> None:
    """Which take the place of torch's where it has none for a device or a type."""
    pytest.importorskip("transformers.integrations.moe")
    with MultiplyAdds() as counter:
        torch.ops.transformers.grouped_mm_fallback(torch.randn(6, 16), torch.randn(2, 16, 8), torch.tensor([2, 6]))
    assert counter.total == 6 * 16 * 8


# --- rare products --------------------------------------------------------------------------------------------------

RARE = {
    "a matrix and a vector": (lambda: torch.randn(3, 5) @ torch.randn(5), 3 * 5),
    "matrices and a vector": (lambda: torch.randn(2, 3, 5) @ torch.randn(5), 2 * 3 * 5),
    "and a sum": (lambda: torch.addmv(torch.randn(3), torch.randn(3, 5), torch.randn(5)), 3 * 5),
    "two vectors": (lambda: torch.randn(5) @ torch.randn(5), 5),
    "complex vectors": (lambda: torch.vdot(torch.randn(5), torch.randn(5)), 5),
    "sum of products": (lambda: torch.addbmm(torch.ones(3, 4), torch.ones(2, 3, 5), torch.ones(2, 5, 4)), 120),
    "a bilinear layer": (lambda: nn.Bilinear(4, 5, 6)(torch.randn(2, 4), torch.randn(2, 5)), 2 * 6 * 4 * 5),
    "of a sequence": (lambda: nn.Bilinear(4, 5, 6)(torch.randn(2, 7, 4), torch.randn(2, 7, 5)), 2 * 7 * 6 * 4 * 5),
    "distances": (lambda: torch.cdist(torch.randn(2, 7, 4), torch.randn(2, 9, 4)), 2 * 7 * 9 * 4),
}


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("product", RARE)
def test_rare_products_are_counted(product: str, grad: bool) -> None:
    compute, expected = RARE[product]
    with torch.set_grad_enabled(grad), MultiplyAdds() as counter:
        compute()
    assert counter.total == expected


# --- the zoo --------------------------------------------------------------------------------------------------------

ANIMALS = zoo()
UNUSUAL = {"mixtral", "timm sequencer2d_s"}
"""A mixture of experts, and recurrent layers."""
PRODUCT = re.compile("mm|mv|dot|conv|attention|rnn|gru|lstm|linear|bilinear|cdist|matmul")
NO_PRODUCT = re.compile("convert|upsample|linalg_vector_norm|accelerate")


class Operations(TorchDispatchMode):
    """Notes what torch is asked to compute."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch._ops.OpOverload] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        self.seen.add(function)
        return function(*args, **(kwargs or {}))


def uncounted(name: str) -> set[str]:
    """Products that a network of the zoo asks for and nobody counts."""
    model, example = ANIMALS[name].make()
    with in_evaluation(model), torch.no_grad(), MultiplyAdds() as counter, Operations() as operations:
        call(model, example)
    names = {each for each in operations.seen if each._overloadpacket not in counter.flop_registry}
    return {str(each) for each in names if PRODUCT.search(str(each)) and not NO_PRODUCT.search(str(each))}


@pytest.mark.parametrize("name", [name for name, each in ANIMALS.items() if each.ordinary or name in UNUSUAL])
def test_no_product_of_a_network_of_the_zoo_goes_uncounted(name: str) -> None:
    assert uncounted(name) == set()


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name, each in ANIMALS.items() if not each.ordinary and name not in UNUSUAL])
def test_no_product_of_every_other_network_of_the_zoo_goes_uncounted(name: str) -> None:
    assert uncounted(name) == set()


# --- deformable convolutions ----------------------------------------------------------------------------------------


class Deformable(nn.Module):
    """x + a deformable convolution, whose offsets a convolution says."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets, self.layer = nn.Conv2d(WIDTH, 18, 3, padding=1), DeformConv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x, self.offsets(x))


def test_deformable_convolutions_are_counted_and_may_go() -> None:
    sections = layerprune.find_sections(nn.Sequential(Deformable(), Deformable()), torch.randn(EXAMPLES, WIDTH, 4, 5))
    assert [each.macs for each in sections] == 2 * [4 * 5 * 9 * WIDTH * (18 + WIDTH)]
    assert [each.params for each in sections.removable] == 2 * [9 * WIDTH * (18 + WIDTH) + 18 + WIDTH]
