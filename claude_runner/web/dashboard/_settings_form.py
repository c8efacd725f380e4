"""The form of the settings: its fields as they are typed, and the settings that they change."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Final

from claude_runner.settings import Budgets, FollowUpCaps, OwnerSettings
from claude_runner.web.dashboard._forms import Form

WAS: Final = "was"

# Each setting with what the page calls it and the fields that it has there.
KEYS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = MappingProxyType(
    {
        "allowed_tools": ("Allowed tools", ("allowed_tools",)),
        "sandbox_mode": ("Sandbox mode", ("sandbox_mode",)),
        "permission_profile": ("Permissions", ("permission_profile",)),
        "default_model": ("Model", ("default_model",)),
        "timezone": ("Time zone", ("timezone",)),
        "install_dependencies": ("Install dependencies", ("install_dependencies",)),
        "webhook_base_url": ("Base of addresses", ("webhook_base_url",)),
        "followups": ("Follow-ups", ("max_depth", "max_runs", "max_cost_usd")),
        "budgets": ("Budgets", Budgets._fields),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedSettings:
    """The settings as they were typed."""

    allowed_tools: tuple[str, ...]
    sandbox_mode: bool
    permission_profile: str
    default_model: str
    timezone: str
    install_dependencies: bool
    webhook_base_url: str
    max_depth: str
    max_runs: str
    max_cost_usd: str
    day_usd: str
    month_usd: str
    run_usd: str
    job_day_usd: str
    webhook_day_usd: str

    @classmethod
    def of(cls, owned: OwnerSettings) -> "TypedSettings":
        """Return the form of the settings as they are."""
        return cls(
            allowed_tools=owned.allowed_tools,
            sandbox_mode=owned.sandbox_mode,
            permission_profile=owned.permission_profile or "",
            default_model=owned.default_model or "",
            timezone=owned.timezone or "",
            install_dependencies=owned.install_dependencies,
            webhook_base_url=owned.webhook_base_url or "",
            max_depth=str(owned.followups.max_depth),
            max_runs=str(owned.followups.max_runs),
            max_cost_usd=_amount(owned.followups.max_cost_usd),
            **{name: _amount(bound) for name, bound in owned.budgets._asdict().items()},
        )

    @classmethod
    def read(cls, form: Form) -> "TypedSettings":
        """Return what was typed."""
        boxes = {"sandbox_mode", "install_dependencies"}
        texts: dict[str, Any] = {
            it.name: form.ticked(it.name) if it.name in boxes else form.text(it.name).strip()
            for it in fields(cls)
        }
        return cls(**texts | {"allowed_tools": form.all("allowed_tools")})

    def changed(self, was: "TypedSettings") -> list[str]:
        """Return the settings that were typed otherwise than they were."""
        return [key for key, (_, names) in KEYS.items() if any(self._differs(was, name) for name in names)]

    def changes(self, was: "TypedSettings", form: Form) -> dict[str, object]:
        """Return what is to be changed; raises `InvalidError` where a number is none."""
        return {
            key: _DECIDERS[key](form) if key in _DECIDERS else self._value(key, was)
            for key in self.changed(was)
        }

    def rebased(self, was: "TypedSettings", now: "TypedSettings") -> "TypedSettings":
        """Return it with what was not typed otherwise as it is now."""
        changed = self.changed(was)
        untouched = [name for key, (_, names) in KEYS.items() if key not in changed for name in names]
        return replace(self, **{name: getattr(now, name) for name in untouched})

    def differences(self, stored: "TypedSettings") -> list[tuple[str, str, str]]:
        """Return each setting that is stored otherwise: what it is called, what is stored, and what was typed."""
        return [(KEYS[key][0], stored.told(key), self.told(key)) for key in self.changed(stored)]

    def told(self, key: str) -> str:
        """Return a setting in words."""
        values = [getattr(self, name) for name in KEYS[key][1]]
        return ", ".join(_word(value) for value in values)

    def _differs(self, other: "TypedSettings", name: str) -> bool:
        here, there = getattr(self, name), getattr(other, name)
        return set(here) != set(there) if isinstance(here, tuple) else bool(here != there)

    def _value(self, key: str, was: "TypedSettings") -> object:
        if key != "allowed_tools":
            return getattr(self, key)
        kept = [name for name in was.allowed_tools if name in self.allowed_tools]
        return list(dict.fromkeys([*kept, *self.allowed_tools]))  # in the owner's order


def _caps(form: Form) -> FollowUpCaps:
    cost = form.amount("max_cost_usd")
    return FollowUpCaps(form.number("max_depth"), form.number("max_runs"), 0.0 if cost is None else cost)


def _budgets(form: Form) -> dict[str, float | None]:
    return {name: form.amount(name) for name in Budgets._fields}


_DECIDERS: Final[Mapping[str, Callable[[Form], object]]] = MappingProxyType(
    {"followups": _caps, "budgets": _budgets}
)


def _amount(value: float | None) -> str:
    return "" if value is None else f"{value:g}" if value == round(value, 4) and value < 1e6 else str(value)


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    return text or "nothing"
