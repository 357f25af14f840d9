"""Networks of removable sections. Architectures are found by file name, archs/<slug>.py; imports no torch."""

from pathlib import Path

from layerprune.system.files import constant_in


def arch_file(arch: str) -> Path:
    """The file of an architecture: its slug, without the number of sections where it carries one."""
    folder = Path(__file__).parent / "archs"
    exact = folder / f"{arch.replace('-', '_')}.py"
    return exact if exact.is_file() else folder / f"{arch.rpartition('-')[0].replace('-', '_')}.py"


def known_archs() -> list[str]:
    """Slugs of the architectures; mlp-residual takes -<sections>."""
    folder = Path(__file__).parent / "archs"
    return sorted(_slug(file) for file in folder.glob("[!_]*.py"))


def _slug(file: Path) -> str:
    return file.stem.replace("_", "-")


def number_problem(arch: str) -> str | None:
    """What is wrong with the number in an architecture's slug, if anything. Its file's NUMBERED says which there may
    be: the arguments of a range, a set, or True for any.
    """
    file = arch_file(arch)
    numbers = constant_in(file, "NUMBERED")
    if not numbers:
        return None if _slug(file) == arch else f"{_slug(file)} takes no number"
    known = range(*numbers) if isinstance(numbers, tuple) else sorted(numbers if numbers is not True else ())
    if numbers is True or arch.rpartition("-")[2] in map(str, known):
        return None
    return f"needs a number, as in {', '.join(f'{_slug(file)}-{number}' for number in known[:3])}"
