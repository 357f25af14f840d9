"""The one exception that people meet: its text is a single clear line naming the file or key at fault."""


class LayerpruneError(Exception):
    """A mistake that the user can put right; the command line prints it as one line and exits with status 2."""


class SettingError(LayerpruneError):
    """A setting found to be wrong only with the network or the data; the runner adds file and run to the message."""
