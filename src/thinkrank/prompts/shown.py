"""Which events of a history are shown."""


def first_shown(length: int, shown: int, step: int) -> int:
    """Return the first event shown of the newest ones: the first that stands at a multiple of `step`.

    The newest event is always shown.
    """
    first = length - shown
    return min(-(-first // step) * step, max(0, length - 1)) if first else 0
