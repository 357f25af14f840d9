"""The one exception that people meet: its text is a single clear line naming the file or key at fault.

Whatever a stranger wrote into a file, the line that quotes it is short and moves no cursor.
"""

LONGEST = 1200
"""Characters of a line; the middle of a longer one is left out."""


class LayerpruneError(Exception):
    """A mistake that the user can put right; the command line prints it as one line and exits with status 2."""

    def __init__(self, text: object = "") -> None:
        super().__init__(one_line(str(text)))


class SettingError(LayerpruneError):
    """A setting found to be wrong only with the network or the data; the runner adds file and run to the message."""


def one_line(text: str) -> str:
    """A text in one line of bounded length: breaks as spaces, other characters that print nothing as their escapes."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 300]} ... {text[-200:]}"
    joined = " ".join(text.splitlines())
    return joined if joined.isprintable() else "".join(map(_shown, joined))


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
