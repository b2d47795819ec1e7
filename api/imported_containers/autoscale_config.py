"""`autoscale_config` of clients, and the rule of the core that it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from pipeline.deployments import schedules
from pipeline.errors import InvalidInput
from schemas.deployment import AutoscalePolicy, Metric, ScalingBehavior

METRICS: Final[Mapping[str, Metric]] = {
    "cpu": Metric.CPU,
    "gpu": Metric.GPU,
    "ram": Metric.MEMORY,
    "gram": Metric.GPU_MEMORY,
    "latency": Metric.LATENCY,
    "throughput": Metric.THROUGHPUT,
    "concurrency": Metric.CONCURRENCY,
    "queue_length": Metric.QUEUE_LENGTH,
}
PERCENTILES: Final = (50, 75, 90, 95)
_STEPS: Final = {"Pods": "replicas", "Percent": "percent"}
_BEHAVIORS: Final = {"scaleUpBehavior": "scale_up", "scaleDownBehavior": "scale_down"}
_COOLDOWNS: Final = {
    "cooldown_period": "cooldown_s",
    "initial_cooldown_period": "initial_cooldown_s",
}
KEYS: Final = ("targets", "cronScaling", "scale_to_zero", *_COOLDOWNS, *_BEHAVIORS)


class AutoscaleConfig:
    """One that was sent. `wrong`: member → what is wrong with it."""

    def __init__(self, config: Mapping[str, Any], *, is_async: bool, needs_targets: bool) -> None:
        self.wrong: dict[str, list[str]] = {}
        self._config = config
        self._is_async = is_async
        self._needs_targets = needs_targets
        self.policy = self._policy()

    @property
    def has_cron(self) -> bool:
        return bool(self._config.get("cronScaling"))

    def _policy(self) -> AutoscalePolicy:
        given: dict[str, Any] = {
            "targets": self._targets(),
            "schedules": self._schedules(),
            "scale_to_zero": self._flag("scale_to_zero"),
        }
        for name, ours in _COOLDOWNS.items():
            if self._config.get(name) is not None:
                given[ours] = self._seconds(name)
        for name, ours in _BEHAVIORS.items():
            if self._config.get(name) is not None:
                given[ours] = self._behavior(name)
        if self.wrong:
            return AutoscalePolicy()
        if given["schedules"] and given["scale_to_zero"]:
            self._refuse("scale_to_zero", "It cannot be used together with cronScaling.")
            return AutoscalePolicy()
        return self._made(given)

    def _made(self, given: Mapping[str, Any]) -> AutoscalePolicy:
        try:
            policy = AutoscalePolicy.model_validate(given)
            schedules.require_valid(policy.schedules)
        except ValidationError as error:
            for one in error.errors():
                place = ".".join(map(str, one["loc"]))
                self._refuse(_MEMBERS.get(str(one["loc"][0]), "targets"), f"{place}: {one['msg']}.")
        except InvalidInput as error:
            self._refuse("cronScaling", error.message)
        else:
            return policy
        return AutoscalePolicy()

    def _targets(self) -> list[dict[str, Any]]:
        given = self._config.get("targets")
        if given is None and not self._needs_targets:
            return []
        if not isinstance(given, list) or not given:
            self._refuse("targets", "targets must be a non-empty list.")
            return []
        return [found for each in given if (found := self._target(each))]

    def _target(self, given: Any) -> dict[str, Any] | None:
        metric = given.get("metric") if isinstance(given, dict) else None
        if not isinstance(metric, str) or metric not in METRICS:
            self._refuse("targets", f"metric must be one of: {', '.join(METRICS)}.")
            return None
        value, percentile = given.get("target"), given.get("percentile")
        if metric == "queue_length" and not self._is_async:
            self._refuse("targets", "queue_length is for ASYNC deployments only.")
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            self._refuse("targets", "target is required and must be a number greater than 0.")
        if percentile is not None and metric != "latency":
            self._refuse("targets", "percentile is for latency only.")
        elif percentile is not None and percentile not in PERCENTILES:
            self._refuse("targets", "percentile must be one of: 50, 75, 90, 95.")
        if "targets" in self.wrong:
            return None
        percentile = None if percentile is None else int(percentile)
        return {"metric": METRICS[metric], "value": value, "percentile": percentile}

    def _schedules(self) -> list[dict[str, Any]]:
        given = self._config.get("cronScaling")
        given = [] if given is None else given
        if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
            self._refuse("cronScaling", "cronScaling must be a list of objects.")
            return []
        return [
            {
                "timezone": each.get("timezone"),
                "start": each.get("start"),
                "end": each.get("end"),
                "replicas": each.get("desiredReplicas", 1),
            }
            for each in given
        ]

    def _behavior(self, name: str) -> dict[str, Any]:
        given = self._config[name]
        policies = given.get("policies", []) if isinstance(given, dict) else None
        if not isinstance(policies, list) or not all(isinstance(each, dict) for each in policies):
            self._refuse(name, f"{name} must be an object with a list of policies.")
            return {}
        select = given.get("selectPolicy", "Max")
        if select not in ("Max", "Min", "Disabled"):
            self._refuse(name, "selectPolicy must be one of: Max, Min, Disabled.")
        if any(str(each.get("type")) not in _STEPS for each in policies):
            self._refuse(name, "type must be one of: Pods, Percent.")
        steps = [
            {
                "kind": _STEPS.get(str(each.get("type"))),
                "value": each.get("value"),
                "period_s": each.get("periodSeconds"),
            }
            for each in policies
        ]
        # What is left out is the core's to choose.
        told = {
            "stabilization_s": given.get("stabilizationWindowSeconds"),
            "select": given.get("selectPolicy") and str(select).lower(),
            "steps": steps if "policies" in given else None,
        }
        return {name: value for name, value in told.items() if value is not None}

    def _seconds(self, name: str) -> int:
        value = self._config[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self._refuse(name, "Ensure this value is greater than or equal to 0.")
            return 0
        return value

    def _flag(self, name: str) -> bool:
        value = self._config.get(name)
        if value is not None and not isinstance(value, bool):
            self._refuse(name, "Must be a valid boolean.")
        return value is True

    def _refuse(self, name: str, message: str) -> None:
        told = self.wrong.setdefault(name, [])
        if message not in told:
            told.append(message)


_MEMBERS: Final = {
    "schedules": "cronScaling",
    **{ours: name for name, ours in {**_COOLDOWNS, **_BEHAVIORS}.items()},
}


def shown(policy: AutoscalePolicy | None, sent: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What was sent, if the rule still is what that means; else the rule in the same words."""
    given = dict(sent or {})
    meant = AutoscaleConfig(given, is_async=True, needs_targets=False)
    if not meant.wrong and meant.policy == (policy or AutoscalePolicy()):
        return None if sent is None else given
    return None if policy is None else _told(policy)


def _told(policy: AutoscalePolicy) -> dict[str, Any]:
    names = {ours: name for name, ours in METRICS.items()}
    targets = [
        {"metric": names[each.metric], "target": each.value}
        | ({} if each.percentile is None else {"percentile": each.percentile})
        for each in policy.targets
    ]
    cron = [
        {
            "timezone": each.timezone,
            "start": each.start,
            "end": each.end,
            "desiredReplicas": each.replicas,
        }
        for each in policy.schedules
    ]
    return {
        "targets": targets,
        **({"cronScaling": cron} if cron else {}),
        "scale_to_zero": policy.scale_to_zero,
        **{name: getattr(policy, ours) for name, ours in _COOLDOWNS.items()},
        **{name: _behavior_told(getattr(policy, ours)) for name, ours in _BEHAVIORS.items()},
    }


def _behavior_told(behavior: ScalingBehavior) -> dict[str, Any]:
    types = {ours: name for name, ours in _STEPS.items()}
    return {
        "stabilizationWindowSeconds": behavior.stabilization_s,
        "selectPolicy": behavior.select.capitalize(),
        "policies": [
            {"type": types[each.kind], "value": each.value, "periodSeconds": each.period_s}
            for each in behavior.steps
        ],
    }
