"""The benchmark's arithmetic, and that its parts run; the ratios themselves are not judged on a busy machine."""

import pytest

from bench import inference, loader, steps, timing


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only moves when a test moves it."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def test_a_ratio_is_the_second_over_the_first(clock: list[float]) -> None:
    def lasts(seconds: float) -> None:
        clock[0] += seconds

    measured = timing.compare("x", lambda: lasts(2.0), lambda: lasts(6.0), rounds=5, target="<= 2.5")
    assert (measured.ratio, measured.low, measured.high) == (3.0, 3.0, 3.0)
    assert measured.meets_target is False


@pytest.mark.parametrize(("target", "met"), [("<= 1.10", True), (">= 3", False), ("", None)])
def test_a_target_bounds_the_median(target: str, met: bool | None) -> None:
    assert timing.Measurement("x", ratio=1.05, low=1.0, high=1.2, rounds=3, target=target).meets_target is met


def test_quartiles_of_one_to_five() -> None:
    assert timing.quartiles([5.0, 1.0, 4.0, 2.0, 3.0]) == (2.0, 3.0, 4.0)


def test_every_kind_of_measurement_runs() -> None:
    measured = [
        steps.gated_against_dense("lenet-300-100", rounds=1),
        steps.pruned_against_small(4, 0, rounds=1),
        steps.pruned_against_whole(4, 2, rounds=1),
        loader.against_torchvision("shift", 0, images=300, rounds=1),
        inference.half_against_whole(1, rounds=1),
    ]
    assert all(each.ratio > 0 for each in measured)
