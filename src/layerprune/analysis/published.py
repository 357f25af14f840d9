"""What authors published, in a table of its own: never mixed with what was measured here.

published.csv has accuracies in per cent, changes in points (negative: accuracy fell), cuts of MACs and parameters in
per cent of the unpruned network.
"""

from importlib.resources import files as package_files

import pandas as pd

TAGS = {
    "R": "read in the authors' own repository, slides, README or abstract",
    "R3": "read in a third party's table or code",
    "M": "from memory, unverified",
    "?": "not found",
}
COLUMNS = {
    "network": "network",
    "method": "method",
    "base": "unpruned (%)",
    "pruned": "pruned (%)",
    "change": "change (points)",
    "macs_cut": "MACs cut (%)",
    "params_cut": "parameters cut (%)",
    "blocks_out": "blocks out",
    "tag": "tag",
    "source": "source",
}


def published(dataset: str) -> pd.DataFrame:
    """The published rows of a data set as text, empty where nothing is stated; no rows for a data set without any."""
    path = package_files("layerprune.analysis").joinpath("published.csv")
    with path.open(encoding="utf-8") as stream:
        rows = pd.read_csv(stream, dtype=str, keep_default_na=False)
    return rows[rows["dataset"] == dataset].drop(columns="dataset").reset_index(drop=True)


def markdown(dataset: str, rows: pd.DataFrame) -> str:
    """The page: rows by network, and what the tags mean."""
    shown = rows.rename(columns=COLUMNS)
    lines = [list(shown.columns), [":---", ":---", *["---:"] * 6, ":---", ":---"], *shown.to_numpy().tolist()]
    table = "\n".join("| " + " | ".join(cell or "–" for cell in line) + " |" for line in lines)
    tags = "; ".join(f"{tag}: {meaning}" for tag, meaning in TAGS.items())
    return (
        f"# {dataset}: published numbers\n\n"
        "None of these was measured here: other recipes, other baselines, often the best epoch on the test set. "
        "Do not set them beside the measured tables.\n\n"
        f"{table}\n\n"
        f"Tags: {tags}. [D] and [M] in a source concern the column that it names: derived by counting, from memory.\n"
    )
