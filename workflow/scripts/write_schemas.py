"""Write the JSON schemas of a preset, a campaign's plan and a record from their types, for editors and other programs.

python workflow/scripts/write_schemas.py
"""

import json
from pathlib import Path

from pydantic import BaseModel

from layerprune.suite.config import CampaignPlan, Preset
from layerprune.suite.record import Record

FOLDER = Path(__file__).parent.parent / "schemas"
SCHEMAS: dict[str, type[BaseModel]] = {"config": Preset, "campaign": CampaignPlan, "record": Record}


def schema_text(model: type[BaseModel]) -> str:
    return json.dumps(model.model_json_schema(), indent=2) + "\n"


def main() -> None:
    for name, model in SCHEMAS.items():
        (FOLDER / f"{name}.schema.json").write_text(schema_text(model), encoding="utf-8")


if __name__ == "__main__":
    main()
