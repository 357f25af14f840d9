"""The rules by which records decide on the paper's claims, as written in config/claims/rules.yaml."""

from typing import Annotated

from pydantic import Field, RootModel, model_validator

from layerprune.core.settings.types import Fraction, PositiveInt, Settings, Several, Slug, describe

ClaimId = Annotated[str, Field(pattern=r"^C[1-9][0-9]*$")]
Date = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]


class Condition(Settings):
    """A bound on a quantity: it must not lie below `at_least`, or not above `at_most`."""

    quantity: Slug = Field(description="a name of layerprune.analysis.claims.QUANTITIES")
    at_least: float | None = describe(None, "lower bound")
    at_most: float | None = describe(None, "upper bound")

    @model_validator(mode="after")
    def one_bound(self) -> "Condition":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("needs one of at_least and at_most")
        return self

    def __str__(self) -> str:
        return (
            f"{self.quantity} >= {self.at_least:g}" if self.at_most is None else f"{self.quantity} <= {self.at_most:g}"
        )


class Rule(Settings):
    """What must hold, on how many networks, and with how many seeds."""

    conditions: Annotated[tuple[Condition, ...], Several] = describe(
        (), "what must hold on a network; none: there is no experiment yet"
    )
    least_seeds: PositiveInt = describe(3, "seeds without which a quantity decides nothing")
    quorum: Fraction = describe(0.75, "share of the networks that must support the claim")


class Change(Settings):
    """A change of a claim's rule. Verdicts by the former rule are reported beside those by today's."""

    date: Date = Field(description="the day of the change, as '2026-11-27'")
    reason: str = Field(description="why, in a sentence or two")
    before: Rule = Field(description="the rule until then")


class Claim(Rule):
    """A claim of the paper, the experiment that tests it, and the rule for its verdict."""

    sentence: str = Field(description="the claim in one sentence")
    experiment: str = Field(description="what is run, or read from the records, to test it")
    also: dict[str, Rule] = describe({}, "other readings of the claim by name, each with a verdict of its own")
    reported: Annotated[tuple[Slug, ...], Several] = describe((), "quantities that are told beside, and decide nothing")
    changes: Annotated[tuple[Change, ...], Several] = describe((), "of the rule, the oldest first")
    figure: Slug | None = describe(None, "the figure that shows it")


class ClaimRules(RootModel[dict[ClaimId, Claim]]):
    """Every claim by its id."""
