"""Other processes that set off together, and disks that fail."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent

Program = subprocess.Popen[str]


@contextmanager
def programs(number: int, what: str, *arguments: object) -> Iterator[list[Program]]:
    """Run a program so many times at once; each is past its imports when the context begins."""
    command = [sys.executable, "-m", "tests.db_program", what, *map(str, arguments)]
    started = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(number)
    ]
    try:
        for program in started:
            assert program.stdout
            assert program.stdout.readline() == "ready\n"
        for program in started:
            assert program.stdin
            program.stdin.write("\n")
            program.stdin.flush()
        yield started
    finally:
        for program in started:
            program.kill()
            program.communicate()


def answers(number: int, what: str, *arguments: object) -> list[str]:
    """Run a program so many times at once and return what each says."""
    with programs(number, what, *arguments) as started:
        said = [program.communicate(timeout=60)[0] for program in started]
        assert [program.returncode for program in started] == [0] * number
    return said


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let every write beyond a file's first bytes fail."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
