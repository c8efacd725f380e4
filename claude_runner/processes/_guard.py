"""Stands between the server and a program it starts and sees to it that nothing of the program outlives it.

Runs as a program of its own, with the standard library alone: `python -I -S _guard.py PROGRAM [ARG …]`. It starts the
program, Claude Code or a tool server, and waits. When that ends, when the guard is told to stop (SIGTERM, SIGINT,
SIGHUP), or when the server dies, every process that came of the program is ended: SIGTERM, and half a second later
SIGKILL.

On Linux it is a child subreaper (PR_SET_CHILD_SUBREAPER, prctl(2)), so that a daemon with a session of its own is
still its descendant, and is signalled when its parent dies (PR_SET_PDEATHSIG). Elsewhere it notices the server's
death by the hang-up of its standard input, and finds descendants as long as their parents live.

Environment:
    CLAUDE_RUNNER_KEEP: Names, separated by commas, of the variables that the program gets; it gets no others.
    CLAUDE_RUNNER_PID_FILE: Where the guard writes its process id; nowhere where it is not given.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time

GRACE_SECONDS = 0.5
LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def set_process_option(option: int, value: int) -> None:
    """Call prctl(2)."""
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def parents() -> dict[int, int]:
    """Return the parent of each process of the machine."""
    if not LINUX:
        import subprocess  # noqa: PLC0415 - a mebibyte that Linux does without

        listing = subprocess.run(
            ["/bin/ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False
        )
        pairs = (line.split() for line in listing.stdout.splitlines())
        return {int(pid): int(parent) for pid, parent in pairs}
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="latin-1") as stat:
                found[int(name)] = int(stat.read().rpartition(")")[2].split()[1])
    return found


def descendants() -> list[int]:
    """Return the processes below this one."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found = [os.getpid()]
    for pid in found:  # grows while it is walked
        found.extend(children.get(pid, ()))
    return found[1:]


class Guard:
    """One program and what came of it."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.exit_code: int | None = None
        # The signals arrive as bytes in a pipe, so that one poll waits for them and for a hang-up together.
        self._wake, wake_writer = os.pipe()
        os.set_blocking(wake_writer, False)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        server = os.getppid()
        if LINUX:
            set_process_option(PR_SET_CHILD_SUBREAPER, 1)
            set_process_option(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != server:  # it died before we asked to be told
            sys.exit(1)
        self._child = os.fork()
        if self._child == 0:
            if LINUX:
                set_process_option(PR_SET_PDEATHSIG, signal.SIGKILL)
            for number in (*STOP_SIGNALS, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.execve(command[0], command, environment)

    def watch(self) -> None:
        """Wait until the program has ended or has to."""
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)  # the server sees the program's output end when the program ends
        waiting = select.poll()
        waiting.register(self._wake, select.POLLIN)
        waiting.register(0, 0)  # hang-up only: what is in it is the program's to read
        while self.exit_code is None:
            for descriptor, event in waiting.poll():
                if descriptor == 0 and event:
                    self._await_child(GRACE_SECONDS)
                    return
                if any(number in STOP_SIGNALS for number in os.read(self._wake, 64)):
                    return
            self._reap()

    def sweep(self) -> None:
        """End every descendant, gently first."""
        gentle_until = time.monotonic() + GRACE_SECONDS
        while left := descendants():
            number = signal.SIGTERM if time.monotonic() < gentle_until else signal.SIGKILL
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            again = time.monotonic() + (GRACE_SECONDS if number == signal.SIGTERM else 0.05)
            while self._reap() and time.monotonic() < again and descendants():
                time.sleep(0.01)

    def _await_child(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._reap() and self.exit_code is None and time.monotonic() < end:
            time.sleep(0.01)

    def _reap(self) -> bool:
        """Take leave of the children that ended; tells whether there are others."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._child:
                self.exit_code = os.waitstatus_to_exitcode(status)


def main() -> None:
    """Run the command line's program under guard and exit as it did."""
    if pid_file := os.environ.get("CLAUDE_RUNNER_PID_FILE"):
        with open(pid_file, "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
    kept = os.environ["CLAUDE_RUNNER_KEEP"].split(",")
    guard = Guard(sys.argv[1:], {name: os.environ[name] for name in kept if name in os.environ})
    guard.watch()
    guard.sweep()
    code = 128 + signal.SIGTERM if guard.exit_code is None else guard.exit_code
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
