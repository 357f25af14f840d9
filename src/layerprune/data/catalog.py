"""What each data set is: classes, image shape, files and their SHA-256, and where its files may lie.

Imports no torch, so that the workflow and the analysis can ask what is available. A new data set is one
`DataSpec` here and one loader in `registry`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from layerprune.errors import LayerpruneError


@dataclass(frozen=True)
class DataSpec:
    """One data set. `size` is the height and width of its images, in pixels.

    `files` maps a file's role to its name, as kept in a data folder; empty for data shipped in the package.
    `sha256` maps a file's (or, for digits, an array's) name to the digest of its decompressed bytes; what has
    no entry goes unchecked. `folders` are places below the data root, in the order of search.
    """

    name: str
    classes: int
    channels: int
    size: int
    sources: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = (".",)


DIGITS = DataSpec(
    name="digits",
    classes=10,
    channels=1,
    size=28,
    sources=("digits",),
    sha256={
        "digits.npz/images": "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3",
        "digits.npz/labels": "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0",
    },
)

MNIST = DataSpec(
    name="mnist",
    classes=10,
    channels=1,
    size=28,
    sources=("mnist",),
    files={
        "train_images": "train-images-idx3-ubyte",
        "train_labels": "train-labels-idx1-ubyte",
        "test_images": "t10k-images-idx3-ubyte",
        "test_labels": "t10k-labels-idx1-ubyte",
    },
    sha256={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    folders=(".", "mnist", "MNIST/raw"),
)

_SPECS = {spec.name: spec for spec in (DIGITS, MNIST)}
NAMES = tuple(_SPECS)


def find(name: str) -> DataSpec:
    """The data set `name`; raises LayerpruneError listing the known ones."""
    if name not in _SPECS:
        raise LayerpruneError(f"data set '{name}' is unknown (known: {', '.join(NAMES)})")
    return _SPECS[name]


def locate(spec: DataSpec, root: Path) -> dict[str, Path] | None:
    """Role -> path, plain or .gz, in the first of the spec's folders that holds every file; else None."""
    for folder in spec.folders:
        found = {role: _plain_or_gzipped(root / folder / name) for role, name in spec.files.items()}
        if all(found.values()):
            return {role: path for role, path in found.items() if path}
    return None


def require(spec: DataSpec, root: Path) -> dict[str, Path]:
    """As `locate`, but raises LayerpruneError naming the folder, what it lacks, and how to get it."""
    paths = locate(spec, root)
    if paths is None:
        raise LayerpruneError(_why_missing(spec, root))
    return paths


def is_available(name: str, root: Path, download: bool) -> tuple[bool, str]:
    """Can `name` be loaded from `root`, or be downloaded? If not, the text is one line that says why."""
    spec = find(name)
    if download or locate(spec, root) is not None:
        return True, ""
    return False, _why_missing(spec, root)


def _plain_or_gzipped(path: Path) -> Path | None:
    candidates = (path, path.with_name(f"{path.name}.gz"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _why_missing(spec: DataSpec, root: Path) -> str:
    remedy = f"run `layerprune stage {spec.name}`, or set data.root or LAYERPRUNE_DATA"
    if not root.is_dir():
        return f"{root}: no such data folder for {spec.name}: {remedy}"
    lacking = min((_absent(spec, root / folder) for folder in spec.folders), key=len)
    subfolders = ", ".join(f"{folder}/" for folder in spec.folders if folder != ".")
    return f"{root}: {spec.name} needs {', '.join(lacking)} (plain or .gz; here or in {subfolders}): {remedy}"


def _absent(spec: DataSpec, folder: Path) -> list[str]:
    return [name for name in spec.files.values() if _plain_or_gzipped(folder / name) is None]
