"""The settings for commands, with what is wrong about them said in a sentence.

They are imported by the functions that need them: loading them takes a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import Misconfigured

if TYPE_CHECKING:
    from pydantic import ValidationError

    from pipeline.settings import Settings


class Fault(NamedTuple):
    setting: str
    problem: str
    """Without the value: it may be a secret."""


class BadSettings(Misconfigured):
    """Of the environment; all of them at once."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(" ".join(f"{name} is wrong: {problem}." for name, problem in faults))
        self.faults = faults


def read_settings(**given: Any) -> Settings:
    """From the environment, except what is given. Raises BadSettings."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from pipeline.settings import Settings

    try:
        return Settings(**given)
    except ValidationError as error:
        raise BadSettings(_faults(error)) from error
    except SettingsError as error:
        raise BadSettings([Fault("A setting", str(error))]) from error


def _faults(error: ValidationError) -> list[Fault]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        Fault(
            f"MODELYARD_{str(each['loc'][0]).upper()}" if each["loc"] else "A setting", each["msg"]
        )
        for each in found
    ]
