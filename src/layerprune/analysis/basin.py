"""Do sections that may go come back? Trainings in which none is removed, against docs/method.md, section 5 (claim C7).

With step sizes a for theta and b for the weights (learning rate / (1 - momentum)), weight decay lambda and bounds
|Delta| <= k w and |grad_W| <= m theta, the comparison system is
    theta' = a (k w - nu),   w' = b (m theta - lambda w)
with the saddle w* = nu / k, theta* = lambda nu / (k m), and
    mu = (-b lambda + sqrt(b^2 lambda^2 + 4 a b k m)) / 2
A section below its stable manifold is predicted to close:
    x + y < 1,    x = w / w*,    y = (b m / mu) (theta - theta*) / w*
k and m are not known; at each check they are taken as the largest ratios over the last RECENT checks, which needs no
knowledge of what is to come.
"""

from dataclasses import dataclass

import numpy as np

from layerprune.analysis.gate_traces import GateTrace

VARIANT = "stay"
RECENT = 5
LEAST = 1e-20
"""Of k m: of a section that no gradient reaches."""


@dataclass(frozen=True)
class Fates:
    """Of one training: arrays [checks, sections] from the warm-up on, and what became of each section [sections]."""

    trace: GateTrace
    step: np.ndarray
    x: np.ndarray
    y: np.ndarray
    may_go: np.ndarray
    """Where the pruning condition has held, at this check or before."""
    closed: np.ndarray
    """Which sections were closed when theta was rounded."""

    @property
    def predicted(self) -> np.ndarray:
        """Where a section has been below the manifold, at this check or before."""
        return np.logical_or.accumulate(self.x + self.y < 1, axis=0)

    @property
    def weights_since(self) -> np.ndarray:
        """Norm of a section's weights at the end over that when it might go first; NaN where it never might."""
        return self._since(self.trace.norm)

    @property
    def decay(self) -> np.ndarray | None:
        """What the logarithm of the norm of a section's weights under weight decay lost since the section might go
        first; NaN as above. None if the trace does not have that norm."""
        return None if self.trace.decaying is None else -np.log(self._since(self.trace.decaying))

    def _since(self, norm: np.ndarray) -> np.ndarray:
        norm = norm[-len(self.step) :]
        ratio = norm[-1] / norm[self._first, np.arange(norm.shape[1])]
        return np.where(self.may_go[-1], ratio, np.nan)

    @property
    def decay_predicted(self) -> np.ndarray:
        """The same of weights that nothing but weight decay moves: lambda times the integral of b over steps."""
        training = self.trace.record.provenance.config["training"]
        b = self.trace.lr[-len(self.step) :] / (1 - training["momentum"])
        spans = np.diff(self.step) * (b[1:] + b[:-1]) / 2  # b changes little between checks
        passed = training["weight_decay"] * np.concatenate([[0.0], np.cumsum(spans)])
        return np.where(self.may_go[-1], passed[-1] - passed[self._first], np.nan)

    @property
    def _first(self) -> np.ndarray:
        """The check at which a section might go first, 0 for one that never might."""
        return self.may_go.argmax(0)


def fates(trace: GateTrace) -> Fates | None:
    """None for a training whose theta never moved."""
    start = trace.warmup
    if start >= len(trace.step):
        return None
    later = slice(start, None)
    x, y = (part[later] for part in coordinates(trace))
    may_go = np.logical_or.accumulate(condition(trace), axis=0)[later]
    return Fates(trace, trace.step[later], x, y, may_go, np.array(trace.record.keep) == 0)


def condition(trace: GateTrace) -> np.ndarray:
    """Where theta was at most theta_tol and the drift positive for as many checks in a row as the settings ask."""
    ready = (trace.theta <= trace.settings.theta_tol) & (trace.delta + trace.price > 0)
    met = np.zeros_like(ready)
    for check in range(len(ready)):
        row = ready[max(0, check - trace.settings.checks + 1) : check + 1]
        met[check] = (len(row) == trace.settings.checks) & row.all(0)
    return met


def coordinates(trace: GateTrace) -> tuple[np.ndarray, np.ndarray]:
    """x and y of every section at every check: below x + y = 1 it is predicted to go."""
    training = trace.record.provenance.config["training"]
    k, m = _recent_most(np.abs(trace.delta) / trace.norm), _recent_most(trace.gradient / trace.sampling)
    decay, price = training["weight_decay"], trace.price
    fast, slow = trace.settings.theta_lr, trace.lr[:, None] / (1 - training["momentum"])
    km = np.maximum(k * m, LEAST)
    # b m / (mu w*) without the differences and quotients of next to nothing.
    factor = (slow * decay + np.sqrt((slow * decay) ** 2 + 4 * fast * slow * km)) / (2 * fast * price)
    return trace.norm * k / price, factor * (trace.theta - decay * price / km)


def _recent_most(values: np.ndarray) -> np.ndarray:
    """The largest value of each section over the last RECENT checks."""
    return np.stack([values[max(0, check - RECENT + 1) : check + 1].max(0) for check in range(len(values))])
