"""Checks at the door: a wrong value is told in one line, with its name and what is allowed."""

import difflib
import json
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

_MANY = 40  # names that an error lists at the most
_SOME = 12  # of those found where something else was looked for


class ParameterError(ValueError):
    """A wrong parameter, told in one line: its name, the value given, what is allowed."""


class DataError(ParameterError):
    """Damaged data, told in one line; a ParameterError too, as some parameter names the file."""


class SlurmError(RuntimeError):
    """Slurm refuses, or does not answer."""


class NoSlurm(SlurmError):
    """There is no Slurm on this machine."""


class RunInUse(FileExistsError):
    """A run folder that another process is writing."""


class Rule(NamedTuple):
    """What holds of an allowed value, and how an error message says it."""

    holds: Callable[[Any], bool]
    allowed: str


def check_choice(parameter: str, value: object, allowed: list[str], or_else: str = "") -> None:
    """Raise ParameterError, with the closest match, unless the value is one of the allowed names.

    Args:
        parameter: name in the message.
        value: what was given.
        allowed: the names.
        or_else: what else would be allowed, as the message says it.
    """
    if value not in allowed:
        close = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        names = ", ".join(allowed) if len(allowed) <= _MANY else f"{len(allowed)} names"
        raise ParameterError(f"{parameter}={value!r}: must be one of {names}{or_else}{hint}")


def found(wanted: str, names: Iterable[str]) -> str:
    """What there is in the place of what was looked for, as an error says it, with the closest match.

    >>> found("x_train", ["X_train", "y_train"])
    "found X_train, y_train; did you mean 'X_train'?"
    """
    there = sorted(names)
    by_plain_name = {name.lower(): name for name in there if name != wanted}
    close = difflib.get_close_matches(wanted.lower(), by_plain_name, n=1, cutoff=0.75)
    hint = f"; did you mean {by_plain_name[close[0]]!r}?" if close else ""
    more = f" and {len(there) - _SOME} more" if len(there) > _SOME else ""
    return f"found {', '.join(there[:_SOME]) or 'nothing'}{more}{hint}"


def check_at_least(least: int, **numbers_given: int) -> None:
    """Raise ParameterError unless each of the numbers, given by its name, is an integer of at least `least`."""
    for name, value in numbers_given.items():
        if not _is(int, value) or value < least:
            raise ParameterError(f"{name}={value!r}: must be an integer of at least {least}")


def check_as_saved(settings: Mapping[str, object], state: Mapping[str, Any]) -> None:
    """Raise ParameterError unless a state was saved with these settings."""
    for name, value in settings.items():
        if state.get(name) != value:
            raise ParameterError(f"{name}={value!r}: must be {state.get(name)!r}, as where the state was saved")


def check_known(name: str, value: Any, known: list[str]) -> None:
    """Raise ParameterError, with the closest match, unless a parameter of that name is known."""
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"must be one of {', '.join(known)}"
        raise ParameterError(f"unknown parameter {name}={value!r}: {hint}")


def typed(name: str, value: Any, kind: Any, rule: Rule | None) -> Any:
    """The value as the kind asked for, if the rule holds; whole floats are no integers and truth values no numbers.

    Raises ParameterError.
    """
    value = _converted(name, value, kind, rule)
    if rule and not rule.holds(value):
        raise ParameterError(f"{name}={value!r}: must be {rule.allowed}")
    return value


def _converted(name: str, value: Any, kind: Any, rule: Rule | None) -> Any:
    if kind in _LISTS:
        item, items, example = _LISTS[kind]
        given = _json_list(value) if isinstance(value, str) else value
        if isinstance(given, list | tuple) and all(_is(item, part) for part in given):
            return tuple(item(part) for part in given)
        raise ParameterError(f"{name}={value!r}: must be a list of {items}, such as {example}")
    if not _is(kind, value):
        words = {int: "an integer", float: "a number", str: "text"}
        not_text = ", not text" if isinstance(value, str) else ""
        raise ParameterError(f"{name}={value!r}: must be {rule.allowed if rule else words[kind]}{not_text}")
    try:
        return kind(value)
    except OverflowError as error:  # an integer that no floating point number comes near
        raise ParameterError(f"{name}={value!r}: must be {rule.allowed if rule else 'a number'}") from error


_LISTS = {tuple[str, ...]: (str, "names", '["cnd"]'), tuple[int, ...]: (int, "integers", "[10, 20]")}


def _json_list(text: str) -> Any:
    """The list that a text is in JSON, as papermill's `-p` passes one on; the text itself where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _is(kind: type, value: Any) -> bool:
    abstract = {int: numbers.Integral, float: numbers.Real}.get(kind, kind)
    return isinstance(value, abstract) and not isinstance(value, bool)
