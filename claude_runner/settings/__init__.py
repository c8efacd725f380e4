"""What the owner may change while the server runs. Owns the table settings: a key and a JSON value each."""

from claude_runner.settings._owned import DEFAULTS, Budgets, FollowUpCaps, OwnerSettings, as_text, from_text
from claude_runner.settings._stored import (
    StoredSettings,
    allowed_tools,
    default_model,
    followup_caps,
    job_defaults,
    rights,
)

__all__ = [
    "DEFAULTS",
    "Budgets",
    "FollowUpCaps",
    "OwnerSettings",
    "StoredSettings",
    "allowed_tools",
    "as_text",
    "default_model",
    "followup_caps",
    "from_text",
    "job_defaults",
    "rights",
]
