"""Building blocks of all settings classes: types of values, and descriptions of keys."""

import reprlib
from collections import Counter
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

Duration = Annotated[str, Field(pattern=r"^[0-9]{1,9}(ep|it)$")]
Length = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}(ep|it)$")]
"""A duration above 0."""
WarmUp = Annotated[str, Field(pattern=r"^([0-9]{1,9}(ep|it)|[0-9]{1,2}%)$")]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")]
StudyName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}(/[a-z0-9][a-z0-9.-]{0,63})?$")]
"""A preset, or one data set of it: PRESET or PRESET/DATASET."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
PositiveInt = Annotated[int, Field(ge=1, lt=2**31)]
EvenInt = Annotated[int, Field(ge=2, lt=2**31, multiple_of=2)]
"""Option A pads with as many zero channels before as behind."""
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
Several = Field(strict=False)
"""For tuples: YAML and JSON write lists. What is in them stays strict."""


def _distinct(values: tuple) -> tuple:
    if len(set(values)) < len(values):
        twice, _ = Counter(values).most_common(1)[0]
        raise ValueError(f"{twice} appears twice")
    return values


Seeds = Annotated[tuple[Seed, ...], Several, Field(min_length=1, max_length=20_000), AfterValidator(_distinct)]


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys, and values of other types: neither '20' nor true is a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def describe(default: Any, text: str) -> Any:
    return Field(default=default, description=text)


def later(default: Any, text: str, **extra: Any) -> Any:
    """A setting added after results were recorded. Those stay current where it stands for what was done then, and is
    left out of the digest: at its default or, if the default changed the behaviour, at `before`.
    """
    return Field(default=default, description=text, json_schema_extra={"later": True} | extra)


def steps_of(duration: str, steps_per_epoch: int) -> int:
    """A duration in optimizer steps."""
    count = int(duration[:-2])
    return count * steps_per_epoch if duration.endswith("ep") else count


def warmup_steps(warmup: str, steps_per_epoch: int, total: int) -> int:
    """A warm-up in optimizer steps: a duration, or a percentage of `total` steps."""
    return total * int(warmup[:-1]) // 100 if warmup.endswith("%") else steps_of(warmup, steps_per_epoch)


def first_problem(error: ValidationError) -> str:
    """The first mistake, its place and what is wrong there, as `.key.key: text`, shortened."""
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"]]
    where = "".join(f".{_shortened(part, 80)}" for part in parts if not part.startswith(("tagged", "constrained")))
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    message = _shortened(first["msg"].removeprefix("Value error, "), 400)
    if first["type"] == "value_error":
        return f"{where}: {message}"
    return f"{where}: {message}, not {_SHORT.repr(first['input'])}"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
