"""Claude Runner: prompts that run unattended, on a schedule, by hand or by webhook."""

__version__ = "0.1.0"
