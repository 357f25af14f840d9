"""Pruning methods, one short file each; the file's name is the slug, its folder the family.

trained/   gates learned (or drawn) during one training from scratch
scores/    a score per section on a trained network, then shared removal and fine-tuning
controls/  what any method must beat: the pruned architecture from scratch, a replayed keep list

This module finds them by file name alone and imports no torch, so that configuration and analysis stay light.
"""

from pathlib import Path

FAMILIES = ("trained", "scores", "controls")


def families() -> dict[str, str]:
    """Slug of every method -> its family, found by looking at the folders."""
    here = Path(__file__).parent
    return {
        file.stem.replace("_", "-"): family
        for family in FAMILIES
        for file in sorted((here / family).glob("*.py"))
        if not file.stem.startswith("_")
    }


def module_name(slug: str) -> str:
    """Dotted module of a method, such as layerprune.methods.scores.leave_one_out."""
    return f"layerprune.methods.{families()[slug]}.{slug.replace('-', '_')}"
