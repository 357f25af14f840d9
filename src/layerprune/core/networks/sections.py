"""A network as a chain of sections, most of them removable.

Section l maps x to  activation(S(x) + gate * F(x)):  F is the branch (the nonlinear section, ending in the weights
that the gate multiplies), S the shortcut (identity or linear). A removed section has no branch any more: it is S.

`network.chain` has all sections in order, `network.sections` those that may go: gates, keep lists, scores and costs all
refer to these. Gates are given per section, in the order of `network.sections`:
    None              every branch open, the plain network
    Tensor [L, B, 1]  a gate per section and example (B = batch) or one for the batch (B = 1); gradients flow to it
    list of length L  each entry None (open), CLOSED (the branch is not computed), a Tensor [B, 1] or a function of the
                      branch's output that gives one
Entries of removed sections are ignored.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn


class _Closed:
    def __repr__(self) -> str:
        return "CLOSED"


CLOSED: Final = _Closed()
"""A gate at zero whose branch need not be computed."""

Gate = Tensor | Callable[[Tensor], Tensor] | _Closed | None
Gates = Tensor | Sequence[Gate] | None


class Section(nn.Module):
    """One section; `name` is unique within its network.

    `activation_if_removed` takes the activation's place when the branch goes; absent: the activation stays. (A ReLU
    behind an identity whose input is never negative does nothing.)
    """

    def __init__(
        self,
        name: str,
        branch: nn.Module | None,
        shortcut: nn.Module | None = None,
        activation: nn.Module | None = None,
        activation_if_removed: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.removable = True
        self.branch = branch
        self.shortcut = shortcut or nn.Identity()
        self.activation = activation or nn.Identity()
        self._activation_if_removed = [activation_if_removed]  # in a list: not a part of the network
        self.note_transparency()

    @property
    def alive(self) -> bool:
        """Whether the section still has its branch."""
        return self.branch is not None

    @property
    def activation_if_removed(self) -> nn.Module | None:
        """What will take the activation's place; None where the activation stays, and when the branch has gone."""
        return self._activation_if_removed[0]

    @property
    def preserves_shape(self) -> bool:
        """Whether the shortcut is the identity."""
        return isinstance(self.shortcut, nn.Identity)

    def remove_branch(self) -> None:
        """Delete the branch for good; only the shortcut remains."""
        self.branch = None
        self.activation = self.activation_if_removed or self.activation
        self._activation_if_removed = [None]
        self.note_transparency()

    @staticmethod
    def channels_second(x: Tensor) -> Tensor:
        """What goes through a section as scores look at it, [B, C, ...]: as it is."""
        return x

    def note_transparency(self) -> None:
        """Check again whether the section does nothing; call this after changing its parts."""
        # A plain attribute, looked up in every forward pass of every section: looking at the modules would show there.
        rest = self.shortcut, self.activation
        self.transparent = not self.alive and all(isinstance(module, nn.Identity) for module in rest)

    def forward(self, x: Tensor, gate: Gate = None) -> Tensor:
        passed = self.shortcut(x)
        if self.branch is None or gate is CLOSED:
            return self.activation(passed)
        return self.join(passed, self.branch(x), gate)

    def join(self, passed: Tensor, out: Tensor, gate: Gate = None) -> Tensor:
        """The section's output, from the outputs of shortcut and branch."""
        if gate is None:
            return self.activation(passed + out)
        gate = gate if isinstance(gate, Tensor) else gate(out)
        gate = gate.to(out.dtype)
        if gate.dim() != out.dim():
            gate = gate.view(-1, *[1] * (out.dim() - 1))
        return self.activation(torch.addcmul(passed.to(out.dtype), gate, out))


class ZeroPadShortcut(nn.Module):
    """Option A of He et al. (CVPR 2016, arXiv 1512.03385, section 3.3): the shortcut of a shape change without weights.

    Every `stride`-th pixel, between channels of 0: [B, C, H, W] -> [B, `channels`, H / stride, W / stride].

    `channels` must exceed C by an even number.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        each_side = (self.channels - x.shape[1]) // 2
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, each_side, each_side))

    def extra_repr(self) -> str:
        return f"{self.channels}, stride={self.stride}"


class SectionedNetwork(nn.Module):
    """stem -> sections -> head. `arch` is its slug, `input_shape` one image's [C, H, W]."""

    def __init__(
        self, arch: str, input_shape: Sequence[int], stem: nn.Module, sections: Sequence[Section], head: nn.Module
    ) -> None:
        super().__init__()
        self.arch = arch
        self.input_shape = tuple(input_shape)
        self.stem = stem
        self.chain = nn.ModuleList(sections)
        self.head = head
        self._index()

    def fix(self, sections: Iterable[Section]) -> None:
        """Declare that these sections stay whatever a method says; they leave `sections`."""
        for section in sections:
            section.removable = False
        self._index()

    @contextmanager
    def only_alive(self) -> Iterator[None]:
        """Within this context `sections` holds the alive ones only, as if the others had never been removable."""
        gone = [section for section in self.sections if not section.alive]
        self.fix(gone)
        try:
            yield
        finally:
            for section in gone:
                section.removable = True
            self._index()

    def _index(self) -> None:
        # Plain lists: every part is registered once, in `chain`.
        self.sections = [section for section in self.chain if section.removable]
        places = iter(range(len(self.sections)))
        self._places = [next(places) if section.removable else None for section in self.chain]

    def forward(
        self, x: Tensor, gates: Gates = None, compute: Callable[[Section, Tensor, Gate], Tensor] = operator.call
    ) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W]; `compute(section, x, gate)` gives what the section does."""
        if isinstance(gates, Tensor):
            gates = gates.unbind(0)
        x = self.stem(x)
        for section, place in zip(self.chain, self._places, strict=True):
            if not section.transparent:  # a removed section costs nothing, not even a call
                x = compute(section, x, gates[place] if gates is not None and place is not None else None)
        return self.head(x)

    def keep(self) -> list[int]:
        """1 for each removable section that is alive, 0 for each that went."""
        return [int(section.alive) for section in self.sections]


def mask_gates(keep: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Gates [L, 1, 1] fixed at a keep list: every branch is computed and multiplied by 0 or 1."""
    return torch.tensor(keep, dtype=torch.float32, device=device).view(-1, 1, 1)


@torch.no_grad()
def scale_branches(network: SectionedNetwork, factor: float) -> None:
    """Multiply the weights of linear layers and convolutions in all branches, biases and normalisations left alone.

    For claim C6: how far does the final network depend on the scale of the initial weights?
    """
    if factor == 1:
        return
    for section in network.chain:
        for layer in section.branch.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight.mul_(factor)
