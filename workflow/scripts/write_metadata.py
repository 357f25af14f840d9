"""Write CITATION.cff, codemeta.json and .zenodo.json from pyproject.toml, the package's version and CHANGELOG.md.

python workflow/scripts/write_metadata.py

The version is that of src/layerprune/__init__.py, the date that of its heading in CHANGELOG.md. What only the owner of
a public copy can fill in (an address, people's names) goes to pyproject.toml; until then a warning names what lacks.
"""

import json
import re
import sys
import tomllib
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
TITLE = "layerprune: replication suite and library for concurrent training and layer pruning of deep networks"
PAPER = "Concurrent Training and Layer Pruning of Deep Neural Networks"
PAPER_AUTHORS = (("Guenter", "V."), ("Sideris", "A."))
ARXIV = "2406.04549"
YEAR = 2024


def project(root: Path = ROOT) -> dict[str, Any]:
    """The table [project] of pyproject.toml, with `version` and, once that version is dated, `date` (ISO 8601)."""
    told = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    code = (root / "src" / "layerprune" / "__init__.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', code, flags=re.MULTILINE)
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    date = re.search(rf"^## \[{re.escape(version)}\] - (\d{{4}}-\d\d-\d\d)$", changes, flags=re.MULTILINE)
    return told | {"version": version, "date": date[1] if date else None}


def citation(told: dict[str, Any]) -> dict[str, Any]:
    """CITATION.cff, version 1.2.0 of the format."""
    people = [{"family-names": family, "given-names": given} for family, given in PAPER_AUTHORS]
    return {
        "cff-version": "1.2.0",
        "message": "If you use this software, please cite the paper that it replicates, and the software itself.",
        "type": "software",
        "title": TITLE,
        "abstract": f"{told['description']}.",
        "version": told["version"],
        **_where_known("date-released", told["date"]),
        "license": told["license"],
        **_where_known("repository-code", repository(told)),
        "keywords": told["keywords"],
        "authors": [_citation_author(each) for each in told["authors"]],
        "preferred-citation": {
            "type": "article",
            "title": PAPER,
            "authors": people,
            "year": YEAR,
            "journal": "arXiv preprint",
            "identifiers": [{"type": "other", "value": f"arXiv:{ARXIV}", "description": "The preprint"}],
        },
    }


def codemeta(told: dict[str, Any]) -> dict[str, Any]:
    """codemeta.json, version 3.0 of the vocabulary."""
    people = [{"@type": "Person", "familyName": family, "givenName": given} for family, given in PAPER_AUTHORS]
    return {
        "@context": "https://w3id.org/codemeta/3.0",
        "@type": "SoftwareSourceCode",
        "name": told["name"],
        "description": told["description"],
        "version": told["version"],
        **_where_known("datePublished", told["date"]),
        "license": f"https://spdx.org/licenses/{told['license']}",
        **_where_known("codeRepository", repository(told)),
        "programmingLanguage": {"@type": "ComputerLanguage", "name": "Python", "version": told["requires-python"]},
        "softwareRequirements": told["dependencies"],
        "keywords": told["keywords"],
        "author": [{"@type": "Person" if is_person(each) else "Organization", **each} for each in told["authors"]],
        "referencePublication": {
            "@type": "ScholarlyArticle",
            "name": PAPER,
            "author": people,
            "datePublished": str(YEAR),
            "identifier": f"https://arxiv.org/abs/{ARXIV}",
        },
    }


def zenodo(told: dict[str, Any]) -> dict[str, Any]:
    """.zenodo.json, the metadata of a deposit."""
    return {
        "title": TITLE,
        "description": f"<p>{told['description']}.</p>",
        "upload_type": "software",
        "access_right": "open",
        "version": told["version"],
        **_where_known("publication_date", told["date"]),
        "license": told["license"],
        "keywords": told["keywords"],
        "creators": [{"name": each["name"]} for each in told["authors"]],
        "related_identifiers": [{"identifier": f"arXiv:{ARXIV}", "relation": "isSupplementTo", "scheme": "arxiv"}],
    }


def _where_known(name: str, value: Any) -> dict[str, Any]:
    return {name: value} if value else {}


def repository(told: dict[str, Any]) -> str | None:
    """Address of the public repository, [project.urls] Repository; None where there is none yet."""
    return told.get("urls", {}).get("Repository")


def is_person(author: dict[str, str]) -> bool:
    """Whether an author is named as "Family, Given"; anything else is a group."""
    return "," in author["name"]


def _citation_author(author: dict[str, str]) -> dict[str, str]:
    if not is_person(author):
        return {"name": author["name"]}
    family, given = author["name"].split(",", 1)
    return {"family-names": family.strip(), "given-names": given.strip()}


def lacking(told: dict[str, Any]) -> list[str]:
    """What the owner has yet to fill in, a line each."""
    lines = {
        'no address of a repository: [project.urls] Repository = "https://..." in pyproject.toml': repository(told),
        'no author by name: authors = [{ name = "Family, Given" }] in pyproject.toml': any(
            is_person(each) for each in told["authors"]
        ),
        f"no date: ## [{told['version']}] - YYYY-MM-DD in CHANGELOG.md": told["date"],
    }
    return [line for line, found in lines.items() if not found]


def texts(told: dict[str, Any]) -> dict[str, str]:
    """Name of a file -> its content."""
    stream = StringIO()
    yaml = YAML()
    yaml.width = 120
    yaml.dump(citation(told), stream)
    made = {"codemeta.json": codemeta(told), ".zenodo.json": zenodo(told)}
    as_json = {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in made.items()}
    return {"CITATION.cff": stream.getvalue(), **as_json}


def main() -> None:
    told = project()
    for name, text in texts(told).items():
        (ROOT / name).write_text(text, encoding="utf-8")
    for line in lacking(told):
        print(f"warning: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
