"""Where results come from: the versions of the code, the commit, and the lock file. Imports no torch."""

import hashlib
from pathlib import Path

from layerprune.system import paths
from layerprune.system.processes import output_of

_REPOSITORY = Path(__file__).parents[3]


def lock_digest() -> str | None:
    """Digest of requirements.lock (first 16 hexadecimal digits), None where there is none."""
    path = paths.root() / "requirements.lock"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else None


def commit() -> str | None:
    """Commit of the checkout that holds the code, None outside a checkout."""
    return _git("rev-parse", "HEAD") or None


def dirty_digest() -> str | None:
    """Digest of the uncommitted change to the code and its configuration, None when there is none."""
    change = _git("diff", "HEAD", "--", "src", "config", "requirements.lock")
    return hashlib.sha256(change.encode()).hexdigest()[:16] if change else None


def _git(*words: str) -> str:
    return output_of("git", "-C", str(_REPOSITORY), *words)
