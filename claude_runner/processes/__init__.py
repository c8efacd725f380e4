"""How programs are started and ended: under a guard, confined, and with nothing left of them."""

from claude_runner.processes._confinement import Confinement, confinement_problem
from claude_runner.processes._leftovers import end_leftovers
from claude_runner.processes._starting import NETWORK, guard_variables, guarded

__all__ = ["NETWORK", "Confinement", "confinement_problem", "end_leftovers", "guard_variables", "guarded"]
