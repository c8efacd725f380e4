"""What the owner may change while the server runs. Owns the table settings: a key and a JSON value each."""

from claude_runner.settings._amounts import NOTHING, Budgets, FollowUpCaps
from claude_runner.settings._owned import DEFAULTS, OF_ONE_JOB, OwnerSettings, as_text, from_text
from claude_runner.settings._stored import (
    StoredSettings,
    allowed_tools,
    budgets,
    default_model,
    followup_caps,
    job_defaults,
    owners_zone,
    prices,
    rights,
)

__all__ = [
    "DEFAULTS",
    "NOTHING",
    "OF_ONE_JOB",
    "Budgets",
    "FollowUpCaps",
    "OwnerSettings",
    "StoredSettings",
    "allowed_tools",
    "as_text",
    "budgets",
    "default_model",
    "followup_caps",
    "from_text",
    "job_defaults",
    "owners_zone",
    "prices",
    "rights",
]
