"""What pruning has changed, in numbers: a table of before and after, as text and as a pandas DataFrame."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from layerprune.core import timing
from layerprune.core.measure import evaluating
from layerprune.errors import LayerpruneError
from layerprune.library import examples
from layerprune.library.memory import peak_memory
from layerprune.library.recording import Node, Recording, record, undisturbed

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Sizes:
    """Sizes of one model: residual sections, weight layers on the longest path from input to output, multiply-adds
    of one input, parameters, and the peak memory in bytes of a forward pass of the example."""

    sections: int
    depth: int
    macs: int
    params: int
    memory: int


def sizes_of(model: nn.Module, example: Any, sections: int, recording: Recording | None = None) -> Sizes:
    """Measured on an example; the recording of the model with it may be known."""
    seen = recording if recording is not None else record(model, examples.moved(example, _device_of(model)))
    macs = -(-seen.macs // examples.batch_size(example))
    return Sizes(sections, depth_of(seen), macs, count_of(model.parameters()), peak_memory(model, example))


def count_of(parameters: Iterable[nn.Parameter]) -> int:
    """How many numbers parameters hold."""
    return sum(each.numel() for each in parameters)


def depth_of(recording: Recording) -> int:
    """Weight layers (what multiplies values of the input by weights) on the longest path from an input to an output."""
    depth: dict[Node, int] = {}
    for node in recording.nodes:
        before = [depth[each] for each in node.inputs if each in depth]
        if node.kind == "input":
            depth[node] = 0
        elif before:
            depth[node] = max(before) + (node.macs > 0 and len(before) < len(node.inputs))
    return max((depth[node] for node in recording.returned if node in depth), default=0)


def latencies(whole: nn.Module, smaller: nn.Module, example: Any, repeats: int) -> tuple[float, float]:
    """Median milliseconds of a forward pass of the example, in evaluation; the two models alternate."""
    _check_precision(whole, smaller)
    device = _device_of(smaller)
    batch = examples.moved(example, device)
    works = [partial(examples.call, each, batch) for each in (whole, smaller)]
    with undisturbed(whole), undisturbed(smaller), evaluating(whole, smaller):
        before, after = (timing.quartiles(times)[1] for times in timing.milliseconds(works, repeats, device))
    return before, after


def _check_precision(whole: nn.Module, smaller: nn.Module) -> None:
    """Raises LayerpruneError where the two would not take the same batch."""
    before, now = (examples.precision_of(each) for each in (whole, smaller))
    if before != now and None not in (before, now):
        raise LayerpruneError(f"report: the model's weights are {now}, those of the whole one {before}: cast it first")


@dataclass(frozen=True)
class Report:
    """Sizes before and after; print it, or take `frame`. `removed` names the removed sections; `latency` holds two
    times in milliseconds if they were measured."""

    before: Sizes
    after: Sizes
    removed: tuple[str, ...] = ()
    latency: tuple[float, float] | None = None

    @property
    def frame(self) -> "pandas.DataFrame":
        """A row for each quantity; columns before, after, and left (after / before)."""
        import pandas  # by whoever asks for it

        rows = {name: (before, after, _share(before, after)) for name, before, after, _ in self._rows()}
        return pandas.DataFrame.from_dict(rows, orient="index", columns=["before", "after", "left"])

    def _rows(self) -> Iterator[tuple[str, float, float, Callable[[float], str]]]:
        """Names, numbers before and after, and how they are written."""
        whole = "{:,}".format
        yield "sections", self.before.sections, self.after.sections, whole
        yield "depth, weight layers", self.before.depth, self.after.depth, whole
        yield "MACs", self.before.macs, self.after.macs, whole
        yield "parameters", self.before.params, self.after.params, whole
        yield "peak memory, bytes", self.before.memory, self.after.memory, whole
        if self.latency is not None:
            yield "latency, ms", *self.latency, "{:,.2f}".format

    def __str__(self) -> str:
        lines = [("", "before", "after", "left")]
        for name, before, after, written in self._rows():
            lines.append((name, written(before), written(after), f"{100 * _share(before, after):.0f} %"))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
        )

    def _repr_html_(self) -> str:
        return self.frame.to_html(formatters={"left": "{:.0%}".format}, float_format="{:,.6g}".format)


def _device_of(model: nn.Module) -> torch.device:
    return next((each.device for each in model.parameters()), torch.device("cpu"))


def _share(before: float, after: float) -> float:
    return after / before if before else 1.0
