"""The one family of errors that a user can put right."""


class LabError(Exception):
    """Something a user can put right.

    Its message says what was expected, what was found and what to do. The command line prints the
    message alone and exits with status 2.
    """
