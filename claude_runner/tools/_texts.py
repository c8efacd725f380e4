"""How sentences name what they are about."""


def counted(number: int, noun: str) -> str:
    """Return how many there are of something, such as `1 run` and `12 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
