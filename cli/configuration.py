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


def read_settings(**given: Any) -> Settings:
    """From the environment, except what is given.

    Raises Misconfigured for all that is wrong at once, each as a Fault in its fact `faults`.
    """
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from pipeline.settings import Settings

    try:
        return Settings(**given)
    except ValidationError as error:
        raise _bad(_faults(error)) from error
    except SettingsError as error:
        raise _bad([Fault("A setting", str(error))]) from error


def _bad(faults: list[Fault]) -> Misconfigured:
    said = " ".join(f"{name} is wrong: {problem}." for name, problem in faults)
    return Misconfigured(said, faults=faults)


def _faults(error: ValidationError) -> list[Fault]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        Fault(
            f"MODELYARD_{str(each['loc'][0]).upper()}" if each["loc"] else "A setting", each["msg"]
        )
        for each in found
    ]
