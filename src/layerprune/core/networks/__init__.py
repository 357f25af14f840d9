"""Networks of removable sections. Architectures are found by file name, archs/<slug>.py; imports no torch."""

from pathlib import Path


def arch_file(arch: str) -> Path:
    """The file of an architecture: its slug, without the number of sections where it carries one."""
    folder = Path(__file__).parent / "archs"
    exact = folder / f"{arch.replace('-', '_')}.py"
    return exact if exact.is_file() else folder / f"{arch.rpartition('-')[0].replace('-', '_')}.py"


def known_archs() -> list[str]:
    """Slugs of the architectures; mlp-residual takes -<sections>."""
    folder = Path(__file__).parent / "archs"
    return sorted(file.stem.replace("_", "-") for file in folder.glob("[!_]*.py"))
