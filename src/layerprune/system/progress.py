"""A progress bar on stderr, silent when stderr is not a terminal."""

import sys

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """One bar for one run; `report` moves it, `say` prints a line that also shows without a terminal."""

    def __init__(self, title: str) -> None:
        self.title = title
        console = Console(stderr=True)
        columns = TextColumn("{task.fields[title]}"), BarColumn(), TextColumn("{task.fields[text]}")
        self.bar = Bar(*columns, TimeRemainingColumn(), console=console, disable=not sys.stderr.isatty())
        self.task = self.bar.add_task("", total=None, title=title, text="")

    def __enter__(self) -> "Progress":
        self.bar.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        self.bar.__exit__(*problem)

    def report(self, done: int, total: int, text: str) -> None:
        """`done` of `total` steps; `text` says how it goes."""
        self.bar.update(self.task, completed=done, total=total, text=text)

    def say(self, line: str) -> None:
        """A line for everyone."""
        print(line, file=sys.stderr)
