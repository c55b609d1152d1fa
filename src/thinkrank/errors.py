"""The one exception this package raises for faults a user can mend."""


class ThinkrankError(ValueError):
    """A fault in the input, with the file, row or key at fault and the way out, in one line.

    It is a `ValueError`, so callers who do not know this package catch it as one. The command line
    prints its text after the program's name and exits with code 2.
    """
