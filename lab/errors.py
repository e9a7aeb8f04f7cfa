"""The one kind of error that a user can mend. Apart from the records, so that the command line starts fast."""


class LabError(Exception):
    """A user's mistake or a broken input: the message says what was expected, what came, what to do.

    The command line prints the message and exits with status 2, without a traceback.
    """
