"""Training steps on a GPU: recorded whole as graphs, eager and compiled; dense, gated and pruned; and the reference's.
Inference of pruned networks against whole ones, as graphs; and what it takes to record a step anew.

Networks are as wide as published, on CIFAR's shapes; the note says what an epoch of 45,000 images takes either way.
"""

import statistics
import threading
from collections.abc import Iterator
from functools import partial

import torch

from bench import reference
from bench.steps import GATED, TRAINING, endless, made_up_data, network_of, shape_of, steps_of, trainer_of
from bench.timing import Measurement, alternate, of_pairs
from layerprune.core import surgery
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.settings import NoSettings
from layerprune.core.timing import Work, seconds
from layerprune.library.latency import engines
from layerprune.system.devices import fastest_convolutions, own_stream

BATCH = 125
"""Of 45,000 images equal batches."""
EPOCH = 45_000
STEPS = 20
"""Of a round: a device that works off a queue is timed over many."""
WORKERS = 8
NEIGHBOURS = (0, 7)
"""Other lanes, while one records a step anew."""
ARCHS = ("resnet-20", "resnet-56", "resnet-110", "vgg16")
BATCHES_OF_INFERENCE = (1, 16, 256)


def step_of(arch: str, method: str, engine: str, precision: str, device: torch.device, pruned: bool = False) -> Work:
    """A call that makes STEPS steps; `pruned`: every second section has gone."""
    how = {"batch_size": BATCH, "augment": "crop-flip", "engine": engine, "precision": precision}
    settings = GATED if method == "gated" else NoSettings()
    network = network_of(arch)
    if pruned:
        surgery.remove(network, range(0, len(network.sections), 2))
    return steps_of(network, method, settings, TRAINING.model_copy(update=how), STEPS, device=device)


def against(name: str, first: Work, second: Work, rounds: int, device: torch.device, target: str = "") -> Measurement:
    """second / first; the note has seconds an epoch."""
    pairs = alternate(first, second, rounds, warm_up=2, device=device)
    epochs = [statistics.median(times) * EPOCH / (BATCH * STEPS) for times in zip(*pairs, strict=True)]
    return of_pairs(name, pairs, target, f"{epochs[1]:.2f} s an epoch against {epochs[0]:.2f}")


def measure(rounds: int, device: torch.device | None = None, archs: tuple[str, ...] = ARCHS) -> Iterator[Measurement]:
    """Every network; raises SystemExit where there is no GPU."""
    if device is None and not torch.cuda.is_available():
        raise SystemExit("python -m bench on-gpu: no CUDA device here")
    device = device or torch.device("cuda")
    with fastest_convolutions():
        for arch in archs:
            yield from _engines(arch, rounds, device)
        for batch in BATCHES_OF_INFERENCE:
            yield inference("resnet-56", batch, rounds, device)
        yield against_reference("resnet-56", rounds, device)
    for neighbours in NEIGHBOURS:  # outside: while one records, the others must not try kernels
        yield recording("resnet-56", neighbours, rounds, device)


def _engines(arch: str, rounds: int, device: torch.device) -> Iterator[Measurement]:
    graphs = step_of(arch, "dense", "graphs", "bf16", device)
    for engine, precision in (("eager", "bf16"), ("compiled", "bf16"), ("graphs", "fp32")):
        other = step_of(arch, "dense", engine, precision, device)
        yield against(f"dense step, graphs bf16 / {engine} {precision}, {arch}", other, graphs, rounds, device)
    gated = step_of(arch, "gated", "graphs", "bf16", device)
    yield against(f"gated step / dense step, graphs bf16, {arch}", graphs, gated, rounds, device, "<= 1.15")
    pruned = step_of(arch, "dense", "graphs", "bf16", device, pruned=True)
    name = f"dense step with every second section / with all, graphs bf16, {arch}"
    yield against(name, graphs, pruned, rounds, device)


def against_reference(arch: str, rounds: int, device: torch.device, workers: int = WORKERS) -> Measurement:
    """How many times as many images a second ours trains on as a loop with a DataLoader, both in bf16."""
    batches = reference.loader(made_up_data(32 * BATCH, shape_of(arch)), BATCH, workers)
    recipe = TRAINING.lr, TRAINING.momentum, TRAINING.weight_decay
    step = reference.training(int(arch.rpartition("-")[2]), batches, *recipe, device=device, precision="bf16")

    def theirs() -> None:
        for _ in range(STEPS):
            step()

    ours = step_of(arch, "dense", "graphs", "bf16", device)
    name = f"our training, graphs bf16 / reference's, bf16, images/s, {arch}"
    return against(name, ours, theirs, rounds, device, ">= 8")


def recording(arch: str, neighbours: int, rounds: int, device: torch.device) -> Measurement:
    """A gated step that is recorded anew, as after a removal, over a step, beside so many lanes of dense ones."""
    ready, done = threading.Barrier(neighbours + 1), threading.Event()

    def neighbour() -> None:
        with own_stream(device):
            work = step_of(arch, "dense", "graphs", "bf16", device)
            work()
            ready.wait()
            while not done.is_set():
                work()

    others = [threading.Thread(target=neighbour) for _ in range(neighbours)]
    for other in others:
        other.start()
    with own_stream(device):
        how = {"batch_size": BATCH, "augment": "crop-flip", "engine": "graphs", "precision": "bf16"}
        trainer = trainer_of(network_of(arch), "gated", GATED, TRAINING.model_copy(update=how), device=device)
        step = partial(next, endless(trainer))
        step()
        ready.wait()
        pairs = []
        for _ in range(rounds):
            usual = seconds(step, device)
            trainer.forget_records()
            pairs.append((usual, seconds(step, device)))
    done.set()
    for other in others:
        other.join()
    name = f"gated step recorded anew / gated step, beside {neighbours} other lanes, {arch}"
    return of_pairs(name, pairs, note=f"{statistics.median(anew for _, anew in pairs):.2f} s")


def inference(arch: str, batch: int, rounds: int, device: torch.device) -> Measurement:
    """Latency in bf16 without every second section over that with all; each a graph where there are graphs."""
    whole, pruned = network_of(arch), network_of(arch)
    surgery.remove(pruned, range(0, len(pruned.sections), 2))
    surgery.fold(pruned)
    engine = "graphed" if device.type == "cuda" else "eager"

    def calls(network: SectionedNetwork) -> Work:
        model = engines.MeasuredModel(arch, network.eval(), network.input_shape)
        once = engines.prepare(model, engine, "bf16", batch, device, threads=1)
        return partial(_repeat, once)

    pairs = alternate(calls(whole), calls(pruned), rounds, warm_up=2, device=device)
    milliseconds = [1000 * statistics.median(times) / STEPS for times in zip(*pairs, strict=True)]
    name = f"inference with every second section / with all, {engine} bf16, {arch}, batch {batch}"
    note = f"{milliseconds[1]:.3f} ms against {milliseconds[0]:.3f}"
    return of_pairs(name, pairs, note=note)


@torch.inference_mode()
def _repeat(once: Work) -> None:
    for _ in range(STEPS):
        once()
