"""torch's SGD, without what torch.compile would need of it."""

import inspect

import torch

Whole = torch.optim.SGD


class SGD(Whole):
    """torch.optim.SGD, computed by the same kernels; without closures.

    torch wraps the methods of its optimizers so that torch.compile leaves them out, and imports the compiler at their
    first call: half of the time in which a run on digits starts, trains and ends.
    """

    add_param_group = inspect.unwrap(Whole.add_param_group)
    zero_grad = inspect.unwrap(Whole.zero_grad)
    state_dict = inspect.unwrap(Whole.state_dict)
    load_state_dict = inspect.unwrap(Whole.load_state_dict)

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters from their gradients."""
        _step(self)


_step = inspect.unwrap(Whole.step)
