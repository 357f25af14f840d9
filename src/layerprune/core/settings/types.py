"""What every settings class is made of: types of values, and how a key is described."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Duration = Annotated[str, Field(pattern=r"^[0-9]+(ep|it)$")]
WarmUp = Annotated[str, Field(pattern=r"^([0-9]+(ep|it)|[0-9]{1,2}%)$")]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
Seed = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
PositiveInt = Annotated[int, Field(ge=1, strict=True)]
EvenInt = Annotated[int, Field(ge=2, multiple_of=2, strict=True)]
"""Option A pads with as many zero channels before as behind."""
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def describe(default: Any, text: str) -> Any:
    return Field(default=default, description=text)


def later(default: Any, text: str) -> Any:
    """A setting added after results were recorded: at its default it stays out of the digest, so they stay current."""
    return Field(default=default, description=text, json_schema_extra={"later": True})


def steps_of(duration: str, steps_per_epoch: int) -> int:
    """A duration in optimizer steps."""
    count = int(duration[:-2])
    return count * steps_per_epoch if duration.endswith("ep") else count


def warmup_steps(warmup: str, steps_per_epoch: int, total: int) -> int:
    """A warm-up in optimizer steps: a duration, or a percentage of `total` steps."""
    return total * int(warmup[:-1]) // 100 if warmup.endswith("%") else steps_of(warmup, steps_per_epoch)


def first_problem(error: ValidationError) -> str:
    """Where a mistake is and what is wrong there, as `.key.key: text`; of several mistakes the first."""
    first = error.errors()[0]
    where = "".join(f".{part}" for part in first["loc"] if not str(part).startswith(("tagged", "constrained")))
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{where}: {message}"
    return f"{where}: {message}, not {first['input']!r}"
