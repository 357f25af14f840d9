"""A progress bar on stderr, silent when stderr is not a terminal."""

import sys

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column


class Progress:
    """One bar for one run, below its title; `report` moves it, `say` prints a line that also shows without a terminal.

    The bar takes what the text leaves of the line, and estimates the time left from what it saw itself: a resumed run
    begins where it is.
    """

    def __init__(self, title: str, console: Console | None = None) -> None:
        self.title = title
        console = console or Console(stderr=True)
        text = TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True))
        columns = text, BarColumn(bar_width=None), TimeRemainingColumn()
        self.bar = Bar(*columns, console=console, expand=True, disable=not console.is_terminal)
        self.task = self.bar.add_task("", total=None, text="")
        self.begun_at: tuple[int, int] | None = None
        """Where the bar began, and of how many steps."""

    def __enter__(self) -> "Progress":
        if not self.bar.disable:
            self.bar.console.print(self.title, highlight=False)
        self.bar.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        self.bar.__exit__(*problem)

    def report(self, done: int, total: int, text: str) -> None:
        """Show `done` of `total` steps, and `text`. Another total, or fewer steps, begins another bar."""
        if self.begun_at is None or total != self.begun_at[1] or done < self.bar.tasks[0].completed:
            self.begun_at = done, total
            self.bar.reset(self.task, total=total, completed=done, text=text)
        else:
            self.bar.update(self.task, completed=done, text=text)

    def say(self, line: str) -> None:
        """A line for everyone."""
        print(line, file=sys.stderr)
