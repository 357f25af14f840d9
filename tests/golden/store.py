"""The committed values: a file for each study and one for the pieces, every case with the versions of its making."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "values"
DIGITS = 7
"""Significant digits that are kept."""


def read(group: str) -> dict[str, Any]:
    """Cases of a group by name: versions, settings, values."""
    path = FOLDER / f"{group}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def write(group: str, cases: dict[str, Any]) -> Path:
    """Replace a group's file: a value a line."""
    path = FOLDER / f"{group}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text("{\n" + ",\n".join(_lines(name, case) for name, case in sorted(cases.items())) + "\n}\n")
    return path


def _lines(name: str, case: dict[str, Any]) -> str:
    head = ", ".join(f"{json.dumps(key)}: {json.dumps(case[key])}" for key in ("versions", "settings"))
    values = ",\n".join(f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in case["values"].items())
    return f'  {json.dumps(name)}: {{{head}, "values": {{\n{values}}}}}'


def plain(value: Any) -> Any:
    """Plain data with the digits that are kept."""
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
