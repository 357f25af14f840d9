"""What each data set is: classes, image shape, files and their digests, and where its files may lie.

Imports no torch, so that the workflow and the analysis can ask what is available. A new data set is one
`DataSpec` here and one module with a loader; one that comes in several forms has a spec for each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from layerprune.errors import LayerpruneError


@dataclass(frozen=True)
class DataSpec:
    """One form of a data set. `size` is the height and width of its images, in pixels, one number if they are square;
    `train` counts the training split, without what is held out.

    `files` maps a file's role to its name, as kept in a data folder; empty for data shipped in the package. A file may
    have any of `suffixes` there. `sha256` maps a file's (or, for digits, an array's) name to the digest of its
    decompressed bytes, `md5` to that of its bytes as they lie; what has no entry goes unchecked. `folders` are places
    below the data root, in the order of search. `in_memory`: all images fit there; otherwise they are decoded while
    they are needed. One training image in `held_out_divisor` is held out, where the split is not a stored one. Images
    of a tree have to be of `image_format`, as Pillow calls it, if one is given.
    """

    name: str
    classes: int
    channels: int
    size: int | tuple[int, int]
    sources: tuple[str, ...]
    train: int
    files: Mapping[str, str] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = (".",)
    suffixes: tuple[str, ...] = ("", ".gz")
    md5: Mapping[str, str] = field(default_factory=dict)
    in_memory: bool = True
    held_out_divisor: int = 10
    image_format: str | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """[C, H, W] of an image."""
        return self.channels, *((self.size, self.size) if isinstance(self.size, int) else self.size)


DIGITS = DataSpec(
    name="digits",
    classes=10,
    channels=1,
    size=28,
    sources=("digits",),
    train=1237,
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
    train=55_000,
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

CIFAR10 = DataSpec(
    name="cifar10",
    classes=10,
    channels=3,
    size=32,
    sources=("cifar10",),
    train=45_000,
    files={"archive": "cifar-10-python"},
    folders=(".", "cifar10"),
    suffixes=(".tar.gz",),
    md5={"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
)
CIFAR10_JPEG = replace(
    CIFAR10, sources=("cifar10-jpeg",), files={"images": "cifar10-jpeg"}, suffixes=("", ".tar.gz", ".tar"), md5={}
)
CIFAR10_PNG = replace(
    CIFAR10_JPEG, sources=("cifar10-png",), files={"images": "cifar10-png"}, image_format="PNG"
)  # the publisher's pixels
CIFAR100 = replace(
    CIFAR10,
    name="cifar100",
    classes=100,
    sources=("cifar100",),
    files={"archive": "cifar-100-python"},
    folders=(".", "cifar100"),
    md5={"cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85"},
)
CIFAR100_JPEG = replace(
    CIFAR100, sources=("cifar100-jpeg",), files={"images": "cifar100-jpeg"}, suffixes=("", ".tar.gz", ".tar"), md5={}
)
CIFAR100_PNG = replace(CIFAR100_JPEG, sources=("cifar100-png",), files={"images": "cifar100-png"}, image_format="PNG")

IMAGENET = DataSpec(
    name="imagenet",
    classes=1000,
    channels=3,
    size=224,
    sources=("imagenet",),
    train=1_255_544,
    files={"images": "imagenet"},
    folders=(".",),
    suffixes=("", ".tar"),
    in_memory=False,
    held_out_divisor=50,
)
IMAGENET_TINY40 = replace(
    IMAGENET,
    classes=40,
    size=64,
    sources=("imagenet-tiny40",),
    train=18_000,
    files={"images": "imagenet-tiny40"},
    suffixes=("", ".tar", ".tar.gz"),
    in_memory=True,
    held_out_divisor=10,
)

# Forms in the order of preference: the first is what a download brings.
_FORMS: dict[str, tuple[DataSpec, ...]] = {
    "digits": (DIGITS,),
    "mnist": (MNIST,),
    "cifar10": (CIFAR10, CIFAR10_PNG, CIFAR10_JPEG),
    "cifar100": (CIFAR100, CIFAR100_PNG, CIFAR100_JPEG),
    "imagenet": (IMAGENET, IMAGENET_TINY40),
}
NAMES = tuple(_FORMS)
DOWNLOADABLE = ("digits", "mnist", "cifar10", "cifar100")
"""ImageNet's publisher requires registration; digits ships with the package."""


def forms(name: str) -> tuple[DataSpec, ...]:
    """The forms of the data set `name`, preferred first; raises LayerpruneError listing the known names."""
    if name not in _FORMS:
        raise LayerpruneError(f"data set '{name}' is unknown (known: {', '.join(NAMES)})")
    return _FORMS[name]


def find(name: str) -> DataSpec:
    """The preferred form of the data set `name`; raises LayerpruneError listing the known ones."""
    return forms(name)[0]


def locate(spec: DataSpec, root: Path) -> dict[str, Path] | None:
    """Role -> path, with any suffix, in the first of the spec's folders that holds every file; else None."""
    for folder in spec.folders:
        found = {role: _with_suffix(root / folder / name, spec.suffixes) for role, name in spec.files.items()}
        if all(found.values()):
            return {role: path for role, path in found.items() if path}
    return None


def require(spec: DataSpec, root: Path) -> dict[str, Path]:
    """As `locate`, but raises LayerpruneError naming the folder, what it lacks, and how to get it."""
    paths = locate(spec, root)
    if paths is None:
        raise LayerpruneError(_why_missing([form for form in forms(spec.name) if locate(form, root) is None], root))
    return paths


def present_form(name: str, root: Path, source: str | None = None) -> DataSpec | None:
    """The preferred form of `name` among those found in `root`, or the one of `source`; None if there is none."""
    return next((spec for spec in asked_forms(name, source) if locate(spec, root) is not None), None)


def chosen_form(name: str, root: Path, source: str | None = None) -> DataSpec:
    """The same, but if none is found, the form that is missing."""
    return present_form(name, root, source) or asked_forms(name, source)[0]


def asked_forms(name: str, source: str | None) -> list[DataSpec]:
    """The forms of `name` with this source, all for None. Raises LayerpruneError if there is none."""
    asked = [spec for spec in forms(name) if source is None or source in spec.sources]
    if not asked:
        known = ", ".join(known for spec in forms(name) for known in spec.sources)
        raise LayerpruneError(f"data set {name}: source '{source}' is unknown (known: {known})")
    return asked


def can_be_downloaded(name: str, source: str | None = None) -> bool:
    """Whether the form that a download brings is among those of the source."""
    return name in DOWNLOADABLE and forms(name)[0] in asked_forms(name, source)


def is_available(name: str, root: Path, download: bool, source: str | None = None) -> tuple[bool, str]:
    """Can `name` be loaded from `root`, or be downloaded? If not, the text is one line that says why."""
    wanted = asked_forms(name, source)
    if present_form(name, root, source) is not None or (download and can_be_downloaded(name, source)):
        return True, ""
    return False, _why_missing(wanted, root)


def _with_suffix(path: Path, suffixes: tuple[str, ...]) -> Path | None:
    candidates = (path.with_name(f"{path.name}{suffix}") for suffix in suffixes)
    return next((candidate for candidate in candidates if candidate.exists()), None)


def _why_missing(wanted_forms: list[DataSpec], root: Path) -> str:
    spec = wanted_forms[0]
    get = "put it there" if spec.name in DOWNLOADABLE else "get it from its publisher"
    if forms(spec.name)[0] in wanted_forms and spec.name in DOWNLOADABLE:
        get = f"run `layerprune stage {spec.name}`"
    remedy = f"{get}, or set data.root or LAYERPRUNE_DATA"
    if not root.is_dir():
        return f"{root}: no such data folder for {spec.name}: {remedy}"
    wanted = " or ".join(_wanted(form, root) for form in wanted_forms)
    subfolders = ", ".join(f"{folder}/" for folder in spec.folders if folder != ".")
    places = f"here or in {subfolders}" if subfolders else "here"
    return f"{root}: {spec.name} needs {wanted}, {places}: {remedy}"


def _wanted(spec: DataSpec, root: Path) -> str:
    """The files missing from the most nearly complete folder, and the suffixes that they may have."""
    lacking = min((_absent(spec, root / folder) for folder in spec.folders), key=len)
    if len(spec.suffixes) == 1:
        return ", ".join(f"{name}{spec.suffixes[0]}" for name in lacking)
    others = " or ".join(suffix for suffix in spec.suffixes if suffix)
    return f"{', '.join(lacking)} (plain or {others})"


def _absent(spec: DataSpec, folder: Path) -> list[str]:
    return [name for name in spec.files.values() if _with_suffix(folder / name, spec.suffixes) is None]
