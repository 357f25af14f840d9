"""What a campaign did, what it left undone, and how good its forecasts were, as Markdown that also reads well in a
terminal."""

import statistics
from collections.abc import Iterator

from layerprune.errors import LayerpruneError
from layerprune.suite import store
from layerprune.suite.campaign.conduct import Campaign, Outcome
from layerprune.suite.campaign.schedule import Slot
from layerprune.system.cpu import cpu_name
from layerprune.system.paths import RunKey

HEAD = "| run | forecast, s | took, s | |\n| :--- | ---: | ---: | :--- |"
SHOWN = 20
"""Of names that found no room in the archive."""


def of_campaign(name: str, campaign: Campaign, left_out: list[str]) -> str:
    """The summary of a campaign that has ended."""
    made = [outcome for outcome in campaign.outcomes if outcome.how == "made"]
    unmade = campaign.unmade()
    limits = campaign.limits
    lines = [
        f"# Campaign {name}",
        "",
        f"{len(made)} runs made in {campaign.elapsed:.0f} s of {limits.seconds:.0f} s, {_at_a_time(campaign)}, "
        f"{len(unmade)} left to make ({cpu_name()}).",
    ]
    lines += ["It was told to end before its time."] if campaign.interrupted else []
    lines += _truth(made)
    lines += ["", "## Lanes", "", *(f"* {line}" for line in campaign.opening.lines)] if campaign.opening else []
    lines += ["", "## On the way", "", *(_indented(remark) for remark in campaign.remarks)] if campaign.remarks else []
    lines += ["", HEAD, *map(_row, campaign.outcomes)] if campaign.outcomes else []
    lines += ["", "## Left to make", "", *(f"* {line}" for line in _left(campaign, unmade))] if unmade else []
    for outcome in campaign.outcomes:
        lines += _failure(outcome) if outcome.how == "failed" else []
    lines += ["", "## No room in the archive", "", *_shown(left_out)] if left_out else []
    return "\n".join(lines) + "\n"


def _at_a_time(campaign: Campaign) -> str:
    limits = campaign.limits
    if campaign.opening is None or campaign.opening.count == 0:
        return f"{limits.jobs} at a time"
    return f"{campaign.opening.count} at a time in lanes and {limits.beside} beside them"


def _indented(remark: str) -> str:
    """A remark of several lines as one item of a list."""
    first, *rest = remark.splitlines()
    return "\n".join([f"* {first}", *(f"      {line}" for line in rest)])


def _truth(made: list[Outcome]) -> list[str]:
    ratios = [outcome.seconds / outcome.forecast for outcome in made if outcome.forecast > 0]
    if not ratios:
        return []
    middle = statistics.median(ratios)
    return [f"Runs took {middle:.2f} times their forecast (median; {min(ratios):.2f} to {max(ratios):.2f})."]


def _row(outcome: Outcome) -> str:
    return f"| {outcome.key} | {outcome.forecast:.0f} | {outcome.seconds:.0f} | {_what(outcome)} |"


def _what(outcome: Outcome) -> str:
    if outcome.how != "made":
        return outcome.how
    try:
        record = store.find(outcome.key)
    except LayerpruneError as error:
        return str(error)
    accuracy = "" if record.test_accuracy is None else f", {100 * record.test_accuracy:.2f} %"
    resumed = f", resumed {record.resumed}" if record.resumed else ""
    return f"{record.status}{accuracy}{resumed}"


def _left(campaign: Campaign, unmade: list[RunKey]) -> Iterator[str]:
    how = {outcome.key: outcome.how for outcome in campaign.outcomes}
    for key in unmade:
        seconds = campaign.estimates.seconds(key)
        told = "not measured" if seconds is None else f"about {seconds:.0f} s"
        waits = [parent for parent in campaign.parents[key] if parent in unmade]
        told += f", waits for {waits[0]}" if waits else ""
        yield f"{key}: {how[key]}" if key in how else f"{key}: {told}"


def _failure(outcome: Outcome) -> list[str]:
    return ["", f"## {outcome.key} failed", "", "```text", outcome.words, "```"]


def _shown(names: list[str]) -> list[str]:
    more = [f"* and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return [*(f"* {name}" for name in names[:SHOWN]), *more]


def of_dry_run(slots: list[Slot], runs: list[RunKey], budget: float) -> str:
    """What a campaign would do, in the order in which it would."""
    lines = [f"{'begins':>8} {'takes':>8} {'ends':>8}  run (seconds)"]
    for slot in slots:
        later = "" if slot.end <= budget else "  (begun, and goes on in the next campaign)"
        lines.append(f"{slot.begin:8.0f} {slot.end - slot.begin:8.0f} {slot.end:8.0f}  {slot.key}{later}")
    placed = {slot.key for slot in slots}
    lines += [f"{'does not fit':>26}  {key}" for key in runs if key not in placed]
    last = max((min(slot.end, budget) for slot in slots), default=0.0)
    lines.append(f"{len(slots)} of {len(runs)} runs, over after {last:.0f} s of {budget:.0f} s")
    return "\n".join(lines)
