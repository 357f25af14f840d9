"""How many lanes are fastest: dense training steps on random images in 1, 2, ... lanes, some seconds each.

What counts is images a second over all lanes: another lane pays off as long as that rises.
"""

import threading
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from layerprune.core.data.dataset import DataSet
from layerprune.core.training.loop import Trainer
from layerprune.suite import forecast
from layerprune.suite.config import RunSettings
from layerprune.system.devices import own_stream
from layerprune.system.processes import Notice

BATCHES = 40
"""Of an epoch."""
STEPS_BETWEEN_LOOKS = 25
"""Steps that are begun before the device is waited for, as between a method's checks."""


def sweep(
    settings: RunSettings, device: torch.device, threads: int, counts: Sequence[int], seconds: float, notice: Notice
) -> dict[int, float]:
    """Images a second of so many lanes, for each count until the notice comes. Raises what a lane raises."""
    contest = Contest(settings, device, threads, counts, seconds, notice)
    lanes = [threading.Thread(target=contest.take_part, args=(place,)) for place in range(max(counts))]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    if contest.errors:
        raise contest.errors[0]
    return {count: sum(contest.speeds[count]) for count in counts if contest.speeds[count]}


class Contest:
    """Lanes that train side by side, as many of them as a round asks for; the others wait."""

    def __init__(
        self,
        settings: RunSettings,
        device: torch.device,
        threads: int,
        counts: Sequence[int],
        seconds: float,
        notice: Notice,
    ) -> None:
        self.settings, self.device, self.threads = settings, device, threads
        self.counts, self.seconds, self.notice = counts, seconds, notice
        self.batch = forecast.batch_measured(settings, device)
        self.data = forecast.noise(settings, BATCHES * self.batch, device)
        self.speeds: dict[int, list[float]] = {count: [] for count in counts}
        self.errors: list[Exception] = []
        self._barrier = threading.Barrier(max(counts))
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()  # other streams will read the images

    def take_part(self, place: int) -> None:
        """What lane number `place` does."""
        torch.set_num_threads(self.threads)
        try:
            with own_stream(self.device):
                trainer = self._trainer(self.data)
                self._rounds(place, endless(trainer))
                trainer.forget_records()
        except threading.BrokenBarrierError:
            pass  # another lane has told what broke
        except Exception as error:  # of a lane: whoever joins it raises it
            self.errors.append(error)
            self._barrier.abort()

    def _trainer(self, data: DataSet) -> Trainer:
        return forecast.trainer_on_noise(self.settings, data, 10**9, self.batch, self.device)

    def _rounds(self, place: int, steps: Iterator[Tensor]) -> None:
        for _ in range(forecast.WARM_UP):
            next(steps)
        for count in self.counts:
            self._barrier.wait()
            if place < count and not self.notice:
                self.speeds[count].append(self._speed(steps))

    def _speed(self, steps: Iterator[Tensor]) -> float:
        """Images a second of this lane, beside the others of the round."""
        began, made = time.perf_counter(), 0
        while time.perf_counter() < began + self.seconds:
            for _ in range(STEPS_BETWEEN_LOOKS if self.device.type == "cuda" else 1):
                next(steps)
                made += 1
            if self.device.type == "cuda":
                torch.cuda.current_stream().synchronize()
        return made * self.batch / (time.perf_counter() - began)


def endless(trainer: Trainer) -> Iterator[Tensor]:
    """Makes steps, epoch after epoch; gives each one's summed loss."""
    while True:
        trainer.method.start_epoch(trainer.progress.epoch)
        yield from trainer._steps_of_epoch()
        trainer.progress.epoch += 1
