"""How settings are read: defaults < TOML file < environment, into frozen dataclasses.

An unknown key is an error that names key, value and source, and so is a value of the wrong type. `os.environ` is read
by `meshkit.main` only; everybody else gets the finished dataclass.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_UNKNOWN_SOURCE = "?"


class SettingsError(Exception):
    """A setting is unknown or has a value that it can't have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(Generic[T]):
    """Settings, and where each value came from."""

    value: T
    sources: Mapping[str, str]
    """Dotted key to the file's path or the variable's name; absent where the default holds."""


def load(settings_type: type[T], *, env_prefix: str, path: Path | None, environ: Mapping[str, str]) -> Loaded[T]:
    """Read settings; raise SettingsError with one sentence that says what to change."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if path is not None:
        _overlay(values, sources, _read_toml(path), str(path), "")
    for name in sorted(environ):
        if name.startswith(env_prefix):
            key = name[len(env_prefix) :].lower().split("__")
            _overlay(values, sources, _nest(key, environ[name]), name, "")
    return Loaded(value=_Builder(sources).table(settings_type, values, ""), sources=sources)


def describe(loaded: Loaded[Any]) -> str:
    """One line a value: key, value as TOML-like text, source."""
    rows = [(f"{key} = {_shown(value)}", loaded.sources.get(key, "default")) for key, value in _leaves(loaded.value)]
    width = max((len(text) for text, _ in rows), default=0)
    return "\n".join(f"{text:<{width}}  # {source}" for text, source in rows)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise SettingsError(f"settings file {path} does not exist") from None
    except OSError as problem:
        raise SettingsError(f"settings file {path} can't be read: {problem.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise SettingsError(f"settings file {path} is not valid TOML: {problem}") from None


def _nest(key: list[str], value: Any) -> dict[str, Any]:
    return {key[0]: value if len(key) == 1 else _nest(key[1:], value)}


def _overlay(values: dict[str, Any], sources: dict[str, str], new: Mapping[str, Any], source: str, prefix: str) -> None:
    for key, value in new.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping):
            below = values.setdefault(key, {})
            if isinstance(below, dict):
                _overlay(below, sources, value, source, f"{dotted}.")
                sources.setdefault(dotted, source)
                continue
        values[key] = value
        sources[dotted] = source


class _Builder:
    """Plain values to dataclasses, with errors that name key, value and source."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources

    def table(self, settings_type: Any, values: Mapping[str, Any], prefix: str, base: Any = None) -> Any:
        """`base` holds what is not in `values`: a service gives a group other defaults than the group's own."""
        hints = typing.get_type_hints(settings_type)
        known = {f.name for f in dataclasses.fields(settings_type)}
        for key, value in values.items():
            if key not in known:
                raise SettingsError(
                    f"unknown setting {self._named(f'{prefix}{key}', value)}; known here: {', '.join(sorted(known))}"
                )
        arguments = {
            key: self._convert(hints[key], value, f"{prefix}{key}", _default(settings_type, key, base))
            for key, value in values.items()
        }
        try:
            return settings_type(**arguments) if base is None else dataclasses.replace(base, **arguments)
        except ValueError as problem:
            raise SettingsError(self._broken_rule(str(problem), prefix)) from None

    def _convert(self, hint: Any, value: Any, dotted: str, default: Any = None) -> Any:
        origin = typing.get_origin(hint)
        if origin in (types.UnionType, typing.Union):
            inner = next(part for part in typing.get_args(hint) if part is not type(None))
            return None if value in (None, "") else self._convert(inner, value, dotted)
        if dataclasses.is_dataclass(hint):
            return self.table(hint, self._mapping(value, dotted), f"{dotted}.", default)
        if origin is dict:
            inner = typing.get_args(hint)[1]
            table = self._mapping(value, dotted)
            return {key: self._convert(inner, below, f"{dotted}.{key}") for key, below in table.items()}
        if origin is tuple:
            inner = typing.get_args(hint)[0]
            return tuple(self._convert(inner, part, dotted) for part in self._parts(value, dotted))
        try:
            return _scalar(hint, value)
        except (TypeError, ValueError, KeyError):
            raise SettingsError(f"{self._named(dotted, value)} is not a valid {_kind(hint)}") from None

    def _mapping(self, value: Any, dotted: str) -> Mapping[str, Any]:
        if isinstance(value, Mapping):
            return value
        raise SettingsError(f"{self._named(dotted, value)} must be a table of settings")

    def _parts(self, value: Any, dotted: str) -> list[Any]:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, list):
            return value
        raise SettingsError(f"{self._named(dotted, value)} must be a list, or text with commas")

    def _named(self, dotted: str, value: Any) -> str:
        return f"{dotted} = {value!r} from {self._sources.get(dotted, _UNKNOWN_SOURCE)}"

    def _broken_rule(self, rule: str, prefix: str) -> str:
        """A rule begins with the key that broke it, with or without its group."""
        full = rule if rule.startswith(prefix) else f"{prefix}{rule}"
        source = self._sources.get(full.split(" ", 1)[0])
        return f"{full} (set by {source})" if source else full


def _default(settings_type: Any, key: str, base: Any) -> Any:
    """The group that `key` has without settings; None where it is no group."""
    if base is not None:
        found = getattr(base, key)
    else:
        field = next(f for f in dataclasses.fields(settings_type) if f.name == key)
        found = None if field.default_factory is dataclasses.MISSING else field.default_factory()
    return found if dataclasses.is_dataclass(found) else None


def _scalar(hint: Any, value: Any) -> Any:
    """Text from the environment is converted; a TOML value must already be of a fitting type."""
    if hint is bool:
        return value if isinstance(value, bool) else _BOOLEANS[value.lower() if isinstance(value, str) else ""]
    if isinstance(value, bool):
        raise TypeError
    if hint is int and isinstance(value, int | str):
        return int(value)
    if hint is float and isinstance(value, int | float | str):
        return _finite(float(value))
    if hint is str and isinstance(value, str):
        return value
    if hint is Path and isinstance(value, str):
        return Path(value).expanduser()
    if typing.get_origin(hint) is Literal and value in typing.get_args(hint):
        return value
    raise TypeError


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError
    return value


def _kind(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "choice: " + ", ".join(map(str, typing.get_args(hint)))
    return str(getattr(hint, "__name__", hint))


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for f in dataclasses.fields(value):
        inner = getattr(value, f.name)
        if dataclasses.is_dataclass(inner):
            yield from _leaves(inner, f"{prefix}{f.name}.")
        elif isinstance(inner, dict) and inner and all(dataclasses.is_dataclass(below) for below in inner.values()):
            for key, below in inner.items():
                yield from _leaves(below, f"{prefix}{f.name}.{key}.")
        else:
            yield f"{prefix}{f.name}", inner


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)
