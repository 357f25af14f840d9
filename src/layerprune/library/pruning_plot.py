"""A figure of one pruning: theta and remaining multiply-adds over the steps, and the loss if it decides."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED = 12
"""Most sections that a legend names."""
COLOURS = ("#0072B2", "#D55E00", "#009E73")
"""Blue, vermilion and green, which colour-blind people tell apart (Okabe and Ito)."""


@dataclass(frozen=True)
class Moment:
    """A check: theta of every removable section; shares of the multiply-adds that are left in the model, and that
    sections weighted by theta have; losses with all sections open, with theta's closed, and the reference."""

    step: int
    theta: list[float]
    left: tuple[float, float]
    validation: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Marks:
    """Steps at which theta starts to move and is rounded, the share asked for, and the allowed rise of the loss."""

    warmup: int
    rounding: int
    target: float | None = None
    allowed: float | None = None


def drawn(course: Sequence[Moment], names: Sequence[str], marks: Marks) -> "Figure":
    """A panel for theta, one for the cost, and one for the loss where it was validated."""
    from matplotlib import pyplot  # by whoever asks for it

    validated = [each for each in course if each.validation is not None]
    count = 3 if validated else 2
    figure, axes = pyplot.subplots(count, 1, sharex=True, figsize=(7, 2.4 * count), layout="constrained")
    pyplot.close(figure)  # a notebook shows what is returned, and would show an open one again
    _draw_theta(axes[0], course, names)
    _draw_cost(axes[1], course, marks)
    if validated:
        _draw_loss(axes[2], validated, marks)
    for ax in axes:
        ax.axvline(marks.warmup, color="grey", linestyle=":", linewidth=1)
        ax.axvline(marks.rounding, color="grey", linestyle="--", linewidth=1)
        ax.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("step (dotted: theta starts to move, dashed: it is rounded)")
    return figure


def _draw_theta(ax: "Axes", course: Sequence[Moment], names: Sequence[str]) -> None:
    from matplotlib import colormaps

    steps, colours = [each.step for each in course], colormaps["viridis"]
    for place, (name, values) in enumerate(zip(names, zip(*(each.theta for each in course), strict=True), strict=True)):
        colour = colours(0.9 * place / max(1, len(names) - 1))
        ax.plot(steps, values, color=colour, label=name)
    ax.set(ylabel="theta", ylim=(-0.05, 1.05))
    if len(names) <= NAMED:
        ax.legend(title="section", loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", frameon=False)
    else:
        ax.set_title("one line a section, from the first (dark) to the last (light)", fontsize="small", loc="left")


def _draw_cost(ax: "Axes", course: Sequence[Moment], marks: Marks) -> None:
    steps = [each.step for each in course]
    left, weighted = ([100 * each.left[place] for each in course] for place in (0, 1))
    ax.step(steps, left, where="post", color=COLOURS[0], label="left in the model")
    ax.plot(steps, weighted, color=COLOURS[1], label="sections times theta")
    if marks.target is not None:
        ax.axhline(100 * marks.target, color=COLOURS[2], linewidth=1, label="asked for")
    ax.set(ylabel="MACs (%)", ylim=(0, 105))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", frameon=False)


def _draw_loss(ax: "Axes", course: Sequence[Moment], marks: Marks) -> None:
    steps = [each.step for each in course]
    all_open, closed, reference = ([each.validation[place] for each in course] for place in range(3))
    ax.plot(steps, all_open, color=COLOURS[0], label="all sections open")
    ax.plot(steps, closed, color=COLOURS[1], label="theta below 0.5 closed")
    if marks.allowed is not None:
        highest = [value + marks.allowed for value in reference]
        ax.fill_between(steps, reference, highest, color=COLOURS[2], alpha=0.25, linewidth=0, label="allowed")
    ax.set(ylabel="validation loss")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", frameon=False)
