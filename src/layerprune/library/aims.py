"""What decides how much a pruner removes: a price, a budget in one of several units, or a rise of the loss."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

from layerprune.errors import LayerpruneError
from layerprune.library.arguments import is_number, require

Cost = Literal["uniform", "macs", "params", "latency", "memory"]


@dataclass(frozen=True)
class Aims:
    """One of these, None for the others; `validate` belongs to `max_loss_increase`."""

    nu: float | None = None
    target_macs: float | None = None
    target_params: float | None = None
    target_depth: int | None = None
    target_latency: float | None = None
    target_memory: float | None = None
    max_loss_increase: float | None = None
    validate: Callable[[], Any] | None = None

    @property
    def cost(self) -> str:
        """What the price goes by where nothing is said of it."""
        return "memory" if self.target_memory is not None else "uniform"

    @property
    def theta0(self) -> float:
        """theta at the start: a model that is trained already loses little where most sections are open."""
        return 0.5 if self.max_loss_increase is None else 0.9

    @property
    def consolidate_at(self) -> float:
        """When theta is rounded where nothing is said of it: late where the loss decides, so that it has settled."""
        return 0.5 if self.max_loss_increase is None else 0.75

    def first_price(self, sections: int) -> float | None:
        """nu at the start; for a rise of the loss such that all sections together are worth it."""
        return self.nu if self.max_loss_increase is None else self.max_loss_increase / sections

    def told(self) -> dict[str, float]:
        """What was given, but for `validate`."""
        given = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "validate"}
        return {name: value for name, value in given.items() if value is not None}

    def check(self) -> None:
        """Raises LayerpruneError unless exactly one is given and it is in range."""
        names = [each.name for each in fields(self) if each.name != "validate"]
        if sum(getattr(self, name) is not None for name in names) != 1:
            raise _error(f"give one of {', '.join(names[:-1])} and {names[-1]}")
        for name in ("target_macs", "target_latency", "target_memory"):
            _check_share(name, getattr(self, name))
        if not is_count(self.target_params):
            _check_share("target_params", self.target_params, ", or a whole number of parameters above 1")
        depth = self.target_depth
        is_depth = depth is None or (is_number(depth) and depth >= 0 and depth % 1 == 0)
        require(is_depth, _CALLER, "target_depth is the number of sections to keep, 0 or more", depth)
        self._check_allowance()

    def _check_allowance(self) -> None:
        rise = self.max_loss_increase
        if (rise is None) != (self.validate is None):
            raise _error("give both max_loss_increase and validate, a function that returns the validation loss")
        if rise is not None:
            is_rise = is_number(rise) and 0 < rise < float("inf")
            require(is_rise, _CALLER, "max_loss_increase is how much the validation loss may rise, above 0", rise)
            wanted = "validate is a function that returns the validation loss"
            require(callable(self.validate), _CALLER, wanted, self.validate)


def is_count(asked: Any) -> bool:
    """Whether a number of parameters is meant, not a share."""
    return is_number(asked) and asked > 1 and asked % 1 == 0


def _check_share(name: str, share: Any, otherwise: str = "") -> None:
    is_share = share is None or (is_number(share) and 0 < share <= 1)
    require(is_share, _CALLER, f"{name} is a share of the model's, above 0 and at most 1{otherwise}", share)


_CALLER = "ConcurrentPruner"


def _error(text: str) -> LayerpruneError:
    return LayerpruneError(f"{_CALLER}: {text}")
