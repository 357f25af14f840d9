"""The one exception that people meet: its text is a single clear line naming the file or key at fault."""


class LayerpruneError(Exception):
    """A mistake that the user can mend; the command line prints it as one line and exits with status 2."""


class SettingError(LayerpruneError):
    """A setting that only the network or the data show to be wrong; the runner adds file and run to the message."""
