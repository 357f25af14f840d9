"""What was asked for: a target that does not exist is told the nearest one, and a dry run where its data will come from.

Read from the command line, because Snakemake keeps targets to itself until all rules are read.
"""

import difflib

from snakemake.cli import get_argument_parser


def asked():
    """The options and targets of the command line; none where Snakemake was not started from one."""
    started = Path(sys.argv[0]).name in ("snakemake", "__main__.py")
    return get_argument_parser().parse_known_args(sys.argv[1:] if started else [])[0]


def check_targets(targets):
    """A mistyped target is one line that names what was meant. Files have a slash in their path; targets have none."""
    known = sorted({*(each.name for each in workflow.rules), "everything"})
    for target in targets:
        if target not in known and "/" not in target and not Path(target).exists():
            near = difflib.get_close_matches(target, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "docs/cheat-sheet.md lists them"
            stop(f"{target}: no such target; {hint}")


def origin(dataset):
    """Where the images of a dataset will come from, in words."""
    root, source = settings.data_root(PRESET), PRESET.datasets[dataset].source
    if all(map(stored, planned(dataset))):
        return "not needed, every run is in the store"
    form = catalog.present_form(dataset, root, source)
    if form is None:
        return f"downloaded to {root}" if dataset in AVAILABLE else "left out, as said above"
    files = list((catalog.locate(form, root) or {}).values())
    place = files[0].parent if len(files) > 1 else files[0] if files else "embedded in the package"
    return f"{place} ({form.sources[0]})" if files else place


def tell_origins():
    for dataset in DATASETS:
        print(f"Images of {dataset}: {origin(dataset)}", file=sys.stderr)


ASKED = asked()
check_targets(ASKED.targets or ())

if ASKED.dryrun:
    tell_origins()
