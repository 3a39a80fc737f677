"""Options of a command from the fields of a dataclass, so that each is written once."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from functools import partial
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.models import ParameterInfo

Parameter = inspect.Parameter


def options(parameter: Parameter) -> Iterator[Parameter]:
    """What Typer is shown for a parameter of a command.

    A parameter whose type is a dataclass, or `partial` of one, stands for an option per field. A field
    says its option as a parameter does, `Annotated[..., typer.Option(...)]`, or in its metadata: `help`,
    and where needed `min`, `max`, `name` (of the option, else the field's), `flag` (several with
    spaces between; else made of the name), `type` (what can be typed, where that is less than what the
    field holds) and `panel` (of the help page). A field without is no option; one that is a dataclass
    itself stands for its fields. Defaults are those of the fields, or of the instance that is the
    parameter's default.
    """
    kind = _dataclass(parameter.annotation)
    if kind is None:
        yield parameter.replace(kind=Parameter.KEYWORD_ONLY)
    else:
        yield from _options(kind, parameter.default)


def argument(parameter: Parameter, given: Mapping[str, Any], typed: Collection[str]) -> Any:
    """What a command gets for its parameter: `given` are the values of all options, by name.

    For a dataclass, its instance. For `partial` of one, its `of`, or itself where it has none, with those
    options alone that the user `typed`: the command decides what others depend on, then calls it.
    """
    kind = _dataclass(parameter.annotation)
    if kind is None:
        return given[parameter.name]
    if get_origin(parameter.annotation) is partial:
        names = [option.name for option in options(parameter) if option.name in typed]
        return partial(getattr(kind, "of", kind), **{name: given[name] for name in names})
    return _instance(kind, parameter.default, given)


def _dataclass(annotation: Any) -> Any:
    """The dataclass whose fields an annotation stands for; None if it is a type of its own."""
    if get_origin(annotation) is partial:
        (annotation,) = get_args(annotation)
    return annotation if is_dataclass(annotation) else None


def _options(kind: Any, defaults: object) -> Iterator[Parameter]:
    for field, annotation in _fields(kind):
        default = _default(field, defaults)
        if is_dataclass(annotation):
            yield from _options(annotation, default)
        else:
            only = Parameter.KEYWORD_ONLY
            yield Parameter(_name(field), only, default=default, annotation=annotation)


def _instance(kind: Any, defaults: object, given: Mapping[str, Any]) -> Any:
    values = {
        field.name: _instance(annotation, _default(field, defaults), given)
        if is_dataclass(annotation)
        else given[_name(field)]
        for field, annotation in _fields(kind)
    }
    return kind(**values) if defaults is Parameter.empty else replace(defaults, **values)  # type: ignore[type-var]


def _fields(kind: Any) -> Iterator[tuple[Field[Any], Any]]:
    """Every field that is an option, or a dataclass of options, and its annotation for Typer."""
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint = hints[field.name]
        if is_dataclass(hint) or any(isinstance(a, ParameterInfo) for a in get_args(hint)):
            yield field, hint
        elif "help" in field.metadata:
            said = {k: v for k, v in field.metadata.items() if k in ("help", "min", "max")}
            flag = field.metadata.get("flag", "--" + _name(field).strip("_").replace("_", "-"))
            option = typer.Option(
                *flag.split(), rich_help_panel=field.metadata.get("panel"), **said
            )
            yield field, Annotated[field.metadata.get("type", hint), option]


def _name(field: Field[Any]) -> str:
    name: str = field.metadata.get("name", field.name)
    return name


def _default(field: Field[Any], defaults: object) -> Any:
    if defaults is not Parameter.empty:
        return getattr(defaults, field.name)
    if field.default_factory is not MISSING:
        return field.default_factory()
    return Parameter.empty if field.default is MISSING else field.default
