"""Runs whose folder is not what today's settings, data and code would give are made again, whoever made the folder.

Snakemake's own books hold the settings of the runs that it made itself, and of no run the versions of the code.
"""

from layerprune.suite import store

SHOWN = 3
STALE = set()


def why_stale(key):
    """Why the record in a run's folder is stale, in one line; None if it is current, or if there is none that can be read:
    who reads it says so."""
    try:
        return current.staleness(PRESET, store.find(key)) if paths.record(key).is_file() else None
    except (LayerpruneError, OSError):
        return None


def repeat_if_stale(key):
    """Have a run of the graph made again, as Snakemake does itself with outputs that are incomplete."""
    if not workflow.is_main_process or key in STALE or (why := why_stale(key)) is None:
        return
    STALE.add(key)
    workflow.dag.forcefiles.add(str(paths.record(key)))
    if len(STALE) <= SHOWN:
        print(f"Again: {key}: {why}", file=sys.stderr)
    elif len(STALE) == SHOWN + 1:
        print("Again: more runs, which layerprune verify names", file=sys.stderr)
