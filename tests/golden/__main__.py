"""Write golden values: `python -m tests.golden [part of a name]...` at the top of the repository.

Values that have changed are written only where a version was raised, or where the case's own settings are new: so
nobody can make a change of results pass by writing alone.
A case that is itself made otherwise (pieces.py) is written once its old values are deleted by hand.
"""

import sys
import tempfile
from pathlib import Path

from . import store
from .cases import all_cases, complaint
from .runs import workplace


def main(words: list[str]) -> int:
    """Write the cases whose names hold one of the words, all without words; 1 where some were refused."""
    chosen = [case for case in all_cases().values() if not words or any(word in case.name for word in words)]
    refused = []
    with tempfile.TemporaryDirectory() as folder, workplace(Path(folder)):
        for case in chosen:
            stored = store.read(case.group)
            found = {"versions": case.versions, "settings": case.settings, "values": case.values()}
            before = stored.get(case.name)
            same = before is not None and all(before[name] == found[name] for name in ("versions", "settings"))
            if same and (told := complaint(case, before, found["values"])):
                refused.append(told)
            elif not same or found["values"].keys() > before["values"].keys():
                kept = before["values"] if same else {}
                store.write(case.group, stored | {case.name: found | {"values": found["values"] | kept}})
                print(f"{case.name}: written")
    if not words:
        _forget({case.name for case in chosen})
    print("\n".join(refused), file=sys.stderr)
    return int(bool(refused))


def _forget(known: set[str]) -> None:
    """Drop the values of cases that are no more."""
    for path in store.FOLDER.glob("*.json"):
        stored = store.read(path.stem)
        left = {name: case for name, case in stored.items() if name in known}
        if left != stored:
            store.write(path.stem, left)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
