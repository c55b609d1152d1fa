"""The one exception this package raises for faults a user can mend, and one of torch's that it tells as such."""


class ThinkrankError(ValueError):
    """A fault in the input, with the file, row or key at fault and the way out, in one line.

    It is a `ValueError`, so callers who do not know this package catch it as one. The command line
    prints its text after the program's name and exits with code 2.
    """


class UnwritableError(ThinkrankError):
    """Tell that what is to be kept cannot be written, as on a full disk: nothing that was asked for is at fault."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a device's memory was exhausted; torch, whose error it is, need not be imported to ask."""
    return type(error).__name__ == "OutOfMemoryError"
