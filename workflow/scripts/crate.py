"""Pack a preset's study as a Workflow Run RO-Crate, one file to deposit: workflow/scripts/crate.py PRESET FILE.zip

The archive holds results, figures, settings, code and environment as they lie in the checkout, without the weights of
runs' own folders, and ro-crate-metadata.json, which maps the records: an action for each run, which points to the file
that has the record. Nothing that a record says in full is repeated. The same study gives the same bytes.
"""

import json
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from write_metadata import TITLE, is_person, project

from layerprune.errors import LayerpruneError
from layerprune.suite import config, packing, store
from layerprune.suite.campaign.todo import with_parents
from layerprune.suite.record import Record
from layerprune.system import files, paths
from layerprune.system.paths import RunKey

ROOT = Path(__file__).parents[2]
METADATA = "ro-crate-metadata.json"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
CONTEXT = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]
CODE = ("Snakefile", "Makefile", "environment.yml", "requirements.lock", "pyproject.toml")
CODE += ("README.md", "LICENSE", "CITATION.cff", "CHANGELOG.md")
TYPES = {".csv": "text/csv", ".json": "application/json", ".md": "text/markdown", ".svg": "image/svg+xml"}
TYPES |= {".jsonl": "application/jsonl", ".html": "text/html", ".css": "text/css", ".png": "image/png"}
TYPES |= {".py": "text/x-python", ".yaml": "application/yaml", ".yml": "application/yaml", ".toml": "application/toml"}
TYPES |= {".xz": "application/x-xz", ".npz": "application/zip", ".safetensors": "application/octet-stream"}
OTHERS = "text/plain"
WORKFLOW, PROGRAM, STUDY = "Snakefile", "#layerprune", "#study"
Entity = dict[str, Any]


def main(preset: str, target: str) -> None:
    """Write the crate. Raises LayerpruneError where the preset has no records."""
    runs = records(preset)
    if not runs:
        raise LayerpruneError(f"{paths.results(preset)}: no records to pack; run: make reproduce PRESET={preset}")
    content = study_files(preset)
    told = json.dumps(metadata(preset, runs, content), indent=1, ensure_ascii=False) + "\n"

    def fill(stream: Any) -> None:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_member(METADATA), told)
            for name, path in content.items():
                archive.writestr(_member(name), files.read_regular(path))

    files.write_atomically(Path(target), fill)
    print(f"{target}: {len(runs)} runs, {len(content)} files, {Path(target).stat().st_size / 1e6:.1f} MB")


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)  # with a fixed date
    member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    return member


# --- what is packed ---------------------------------------------------------------------------------------------------


def records(preset: str) -> dict[RunKey, Record]:
    """Every run of the preset that has a record, in the order of the plan, and what they start from beside it."""
    told = config.load_preset(preset)
    found = {key: store.find(key) for key in with_parents(told, config.plan(told, preset))}
    return {key: made for key, made in found.items() if made is not None}


def study_files(preset: str) -> dict[str, Path]:
    """Files of the crate by their names in it, in order: the code's of this checkout, the others of the study."""
    code = [*(ROOT / name for name in CODE), *_below(ROOT / "workflow"), *_below(ROOT / "src" / "layerprune")]
    study, root = [paths.preset_file(preset), paths.claim_rules()], paths.root()
    own = {paths.weights(key) for key in packing.in_folders(preset)}
    study += [path for path in _below(paths.results(preset)) if path not in own] + _below(root / "figures" / preset)
    found = {path.relative_to(ROOT).as_posix(): path for path in code}
    found |= {path.relative_to(root).as_posix(): path for path in study}
    return {name: path for name, path in sorted(found.items()) if path.is_file() and _is_kept(Path(name))}


def _below(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


def _is_kept(path: Path) -> bool:
    return "__pycache__" not in path.parts and not any(part.startswith(".") for part in path.parts)


# --- what is said of it -----------------------------------------------------------------------------------------------


def metadata(preset: str, runs: dict[RunKey, Record], content: dict[str, Path]) -> Entity:
    """The crate's JSON-LD."""
    told = project(ROOT)
    actions = [_action(preset, key, made) for key, made in runs.items()]
    graph = [
        {
            "@id": METADATA,
            "@type": "CreativeWork",
            "about": _link("./"),
            "conformsTo": [
                _link("https://w3id.org/ro/crate/1.1"),
                _link("https://w3id.org/workflowhub/workflow-ro-crate/1.0"),
            ],
        },
        _root(preset, runs, content, told, actions),
        *(
            {"@id": name, "@type": "CreativeWork", "name": title, "version": version}
            for name, (title, version) in PROFILES.items()
        ),
        *(_file(name, path) for name, path in content.items() if name != WORKFLOW),
        *_programs(told),
        _whole_study(preset, runs, content),
        *actions,
    ]
    return {"@context": CONTEXT, "@graph": graph}


def _link(name: str) -> Entity:
    return {"@id": name}


def _links(names: Iterable[str]) -> Entity | list[Entity]:
    """A list; one link by itself, as RO-Crate recommends."""
    found = [_link(name) for name in names]
    return found[0] if len(found) == 1 else found


def _root(
    preset: str, runs: dict[RunKey, Record], content: dict[str, Path], told: Entity, actions: list[Entity]
) -> Entity:
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": f"{TITLE}: the study {preset}",
        "description": f"{len(runs)} runs of the preset {preset}: records, tables, figures, settings and code.",
        "datePublished": max(made.finished_at for made in runs.values()),
        "license": _link("LICENSE"),
        "conformsTo": [_link(name) for name in PROFILES],
        "mainEntity": _link(WORKFLOW),
        "author": _links(f"#author{place}" for place, _ in enumerate(told["authors"])),
        "mentions": _links([STUDY, *(action["@id"] for action in actions)]),
        "hasPart": _links(content),
    }


def _file(name: str, path: Path) -> Entity:
    kind = {"encodingFormat": TYPES.get(path.suffix, OTHERS)}
    size = {"contentSize": str(path.stat().st_size), "sha256": files.sha256_of(path)}
    about = {"about": _link("./")} if name == "README.md" else {}
    return {"@id": name, "@type": "File", "name": Path(name).name} | kind | size | about


def _programs(told: Entity) -> Iterator[Entity]:
    """The workflow, the program that it runs, its language, and who wrote them."""
    snakemake = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
    yield {
        "@id": WORKFLOW,
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
        "name": "The whole study of one preset, as a graph of runs, tables and figures",
        "encodingFormat": OTHERS,
        "programmingLanguage": _link(snakemake),
        "version": told["version"],
    }
    yield {
        "@id": snakemake,
        "@type": "ComputerLanguage",
        "name": "Snakemake",
        "identifier": _link("https://snakemake.github.io"),
        "url": _link("https://snakemake.github.io"),
    }
    yield {
        "@id": PROGRAM,
        "@type": "SoftwareApplication",
        "name": told["name"],
        "softwareVersion": told["version"],
        "softwareRequirements": _link("requirements.lock"),
        "license": _link("LICENSE"),
    }
    for place, author in enumerate(told["authors"]):
        kind = "Person" if is_person(author) else "Organization"
        yield {"@id": f"#author{place}", "@type": kind, "name": author["name"]}


def _whole_study(preset: str, runs: dict[RunKey, Record], content: dict[str, Path]) -> Entity:
    made = [name for name in content if name.startswith(("results/", "figures/"))]
    return {
        "@id": STUDY,
        "@type": "CreateAction",
        "name": f"The study of the preset {preset}",
        "description": f"All {len(runs)} runs, then tables, figures and the ledger of claims.",
        "instrument": _link(WORKFLOW),
        "object": _link(f"config/{preset}.yaml"),
        "result": _links(made),
        "endTime": max(made.finished_at for made in runs.values()),
    }


def _action(preset: str, key: RunKey, made: Record) -> Entity:
    """One run: what made it, from what, when, and the file that has its record, by whose checksum it is found there."""
    folder = paths.record(key)
    where = folder if folder.is_file() else paths.stored_records(preset, key.dataset)
    failed = made.status in ("failed", "diverged")
    status = "http://schema.org/" + ("FailedActionStatus" if failed else "CompletedActionStatus")
    machine = made.provenance.gpu or made.provenance.cpu
    return {
        "@id": _name(str(key)),
        "@type": "CreateAction",
        "name": str(key),
        "description": f"on {machine}, torch {made.provenance.torch}, commit {made.provenance.commit}",
        "identifier": made.checksum,
        "instrument": _link(PROGRAM),
        "object": _links([f"config/{preset}.yaml", *(_name(each) for each in made.provenance.parents)]),
        "result": _link(where.relative_to(paths.root()).as_posix()),
        "endTime": made.finished_at,
        "actionStatus": status,
    } | ({"error": made.reason} if failed else {})


def _name(run: str) -> str:
    return f"#run/{run}"


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except LayerpruneError as error:
        sys.exit(f"Error: {error}")
