"""`python -m bundle` packs the bundle into dist/ and prints its path."""

from bundle import ROOT, pack

print(pack(ROOT / "dist").relative_to(ROOT))  # noqa: T201 - what the user asked for
