"""A campaign's plan as it is written in config/campaigns/<name>.yaml: a preset, and which of its runs come first."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from layerprune.core.settings.types import Seed, Seeds, Settings, Several, Slug, describe


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | int) else value


Names = Annotated[
    tuple[Slug, ...], Several, Field(min_length=1), BeforeValidator(_listed, json_schema_input_type=Slug | list[Slug])
]
OneOrMoreSeeds = Annotated[Seeds, BeforeValidator(_listed, json_schema_input_type=Seed | list[Seed])]


class Selector(Settings):
    """Runs of a preset: every combination of what is named, a name or a list of names a key."""

    dataset: Names = Field(description="data sets of the preset")
    arch: Names = Field(description="architectures of these data sets")
    method: Names = Field(description="methods that the preset runs on these architectures")
    variant: Names = describe(("default",), "variants of these methods")
    seeds: OneOrMoreSeeds | None = describe(None, "seeds, first things first; absent: the preset's for these runs")


class CampaignPlan(Settings):
    """Which runs a campaign makes, first things first."""

    description: str = describe("", "one line: what this campaign is for")
    preset: Slug = Field(description="the preset whose runs these are")
    runs: Annotated[tuple[Selector, ...], Several, Field(min_length=1)] = Field(
        description="runs by priority, the first first"
    )
