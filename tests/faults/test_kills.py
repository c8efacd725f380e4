"""Nothing is missed, doubled or lost, and nothing lives on, however often and whenever the server is killed."""

import os
import secrets
from pathlib import Path
from typing import Final

import pytest

from tests.faults.storm import storm
from tests.scripted_model import ScriptedModel

KILLS: Final = int(os.environ.get("FAULTS_KILLS") or 5)
SEED: Final = int(os.environ.get("FAULTS_SEED") or secrets.randbelow(1_000_000))


@pytest.mark.usefixtures("sandbox")
@pytest.mark.timeout(120 + 30 * KILLS)
async def test_every_delivery_and_slot_is_accounted_for_and_nothing_lives_on_however_the_server_dies(
    tmp_path: Path, model: ScriptedModel
) -> None:
    print(f"\nFAULTS_SEED={SEED} FAULTS_KILLS={KILLS}")  # noqa: T201 - shown where it fails, and by `make faults`
    account = await storm(tmp_path, model, KILLS, SEED)
    print(account.told)  # noqa: T201 - likewise
    assert account.wrong == (), "\n".join(account.wrong)
    assert account.handovers >= 1
    assert "finished" in account.ledger.states
    assert "skipped_paused" in account.ledger.told_fates
