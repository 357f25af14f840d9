"""The embedded `digits`: 1,797 real handwritten digits of 8x8 pixels, enlarged to 28x28. Needs no download.

Source: the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, 1998, UCI
Machine Learning Repository, https://doi.org/10.24432/C50P49, CC BY 4.0), as in scikit-learn's `load_digits`.
digits.npz holds `images` uint8 [1797, 8, 8] with values 0..16 and `labels` uint8 [1797], unchanged.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from layerprune.core.data import splits
from layerprune.core.data.catalog import DIGITS
from layerprune.core.data.dataset import DataSet, Split, channel_statistics
from layerprune.errors import LayerpruneError
from layerprune.system.files import checked_sha256

VERSION = 1
EMBEDDED = Path(__file__).parent / "digits.npz"
_LARGEST_INK = 16


def load(root: Path | None = None) -> DataSet:
    """Train 1,237, validation 200 and test 360 images of 1x28x28. `root` is unused: the images are embedded."""
    images, labels, checksums = read_embedded(EMBEDDED, DIGITS.sha256)
    everything = Split(
        torch.from_numpy(enlarge(images, DIGITS.size)).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))
    )
    chosen = {held: splits.indices(held, labels) for held in (splits.DIGITS_TEST, splits.DIGITS_VALIDATION)}
    test, validation = (torch.from_numpy(each) for each in chosen.values())
    train = everything.without(torch.cat([test, validation]))
    mean, std = channel_statistics(train.images)
    return DataSet(
        name=DIGITS.name,
        source=DIGITS.sources[0],
        classes=DIGITS.classes,
        train=train,
        validation=everything.take(validation),
        test=everything.take(test),
        mean=mean,
        std=std,
        checksums=checksums | {held.file_name: splits.digest(each) for held, each in chosen.items()},
    )


def read_embedded(path: Path, sha256: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """Images uint8 [N, 8, 8] with values 0..16, labels uint8 [N], and the SHA-256 of both arrays.

    Raises LayerpruneError naming the file if it is missing, damaged or altered.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            images, labels = archive["images"], archive["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise LayerpruneError(f"{path}: damaged, reinstall layerprune: {error}") from error
    arrays = {f"digits.npz/{name}": array for name, array in (("images", images), ("labels", labels))}
    digests = {key: checked_sha256(array.tobytes(), sha256.get(key), path) for key, array in arrays.items()}
    return images, labels, digests


def enlarge(images: np.ndarray, size: int) -> np.ndarray:
    """Bilinear enlargement of 0..16 images [N, S, S] to uint8 0..255 [N, size, size], pixel centres aligned.

    Works in integers, rounding half up, so that every machine gets the same bytes.
    """
    weights, unit = _interpolation(images.shape[-1], size)
    ink = weights @ images.astype(np.int64) @ weights.T
    whole = unit**2 * _LARGEST_INK
    return ((255 * ink + whole // 2) // whole).astype(np.uint8)


def _interpolation(small: int, large: int) -> tuple[np.ndarray, int]:
    """Integer weights [large, small]; each row sums to the returned unit."""
    unit = 2 * large
    # Pixel i of the large row has its centre at (i + 1/2) small / large - 1/2 of the small, in 1/unit.
    centres = np.clip((2 * np.arange(large) + 1) * small - large, 0, (small - 1) * unit)
    distances = np.abs(centres[:, None] - np.arange(small) * unit)
    return np.maximum(unit - distances, 0), unit
