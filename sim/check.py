"""A raw tree held against the types it should have: every error at once, in plain words, each at its line."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from sim.suggest import did_you_mean, nearest
from sim.yaml_lines import Node, Problem, plain

Model: TypeAlias = type[BaseModel]

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "null"}
_LIMITS = {
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be finite",
}


@dataclass(frozen=True)
class Rules:
    """What the types alone cannot say.

    reasons: (key, pydantic error type) -> why. patterns: key -> a text pattern in words.
    """

    reasons: dict[tuple[str, str], str]
    patterns: dict[str, str]


def problems(kind: Any, node: Node, path: str, rules: Rules) -> Iterator[Problem]:
    """Everything about `node`, found at the dotted `path`, that type `kind` does not allow."""
    choices = list(_choices(kind))
    if Any in choices:
        return
    if isinstance(node.value, dict):
        yield from _mapping(choices, node, path, rules)
    elif isinstance(node.value, list):
        yield from _list(choices, node, path, rules)
    else:
        yield from _scalar(choices, node, path, rules)


def _choices(kind: Any) -> Iterator[Any]:
    """The members of a union, however it is nested or annotated."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(bare) in (Union, UnionType):
        for member in get_args(bare):
            yield from _choices(member)
    else:
        yield bare if _is_model(bare) or get_origin(bare) in (tuple, dict) else kind


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _mapping(choices: list[Any], node: Node, path: str, rules: Rules) -> Iterator[Problem]:
    models = [choice for choice in choices if _is_model(choice)]
    tables = [choice for choice in choices if get_origin(choice) is dict]
    if not models and not tables:
        yield _unexpected(choices, node, path)
    elif tables:
        yield from _table(get_args(tables[0])[1], node, path, rules)
    elif "kind" in models[0].model_fields:
        yield from _by_kind(models, node, path, rules)
    else:
        yield from _fields(_by_keys(models, node), node, path, rules)


def _table(value: Any, node: Node, path: str, rules: Rules) -> Iterator[Problem]:
    assert isinstance(node.value, dict)
    for key, child in node.value.items():
        yield from problems(value, child, _join(path, key), rules)


def _by_keys(models: list[Model], node: Node) -> Model:
    assert isinstance(node.value, dict)
    given = node.value.keys()
    return max(models, key=lambda model: len(given & model.model_fields.keys()))


def _by_kind(models: list[Model], node: Node, path: str, rules: Rules) -> Iterator[Problem]:
    assert isinstance(node.value, dict)
    if "kind" not in node.value:
        yield Problem(node.where, _join(path, "kind"), f"is missing; one of {_listed(_kinds(models))}")
        return
    kind = node.value["kind"]
    fitting = [model for model in models if not _errors(_field_type(model.model_fields["kind"]), kind.value)]
    if fitting:
        yield from _fields(fitting[0], node, path, rules)
    else:
        known = _kinds(models)
        hint = did_you_mean(str(kind.value), known) or f"; one of {_listed(known)}"
        yield Problem(kind.where, _join(path, "kind"), f"unknown kind {_shown(kind)}{hint}")


def _kinds(models: list[Model]) -> list[str]:
    """Every `kind` that the models take; one that takes any text stands for your own class."""
    named = [get_args(_field_type(model.model_fields["kind"])) for model in models]
    ours = [str(name) for names in named for name in names if isinstance(name, str)]
    return [*ours, "package.module:Class"] if len(ours) < len(models) else ours


def _fields(model: Model, node: Node, path: str, rules: Rules) -> Iterator[Problem]:
    assert isinstance(node.value, dict)
    found = [*_keys(model, node, path)]
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key in node.value:
            found += problems(_field_type(field), node.value[key], _join(path, key), rules)
    if not found and model.__pydantic_decorators__.model_validators:
        found = [Problem(node.where, path, message) for message in _model_errors(model, node)]
    yield from found


def _keys(model: Model, node: Node, path: str) -> Iterator[Problem]:
    """A key that is missing since it is misspelt is one problem."""
    assert isinstance(node.value, dict)
    known = {field.alias or name: field for name, field in model.model_fields.items()}
    missing = [key for key, field in known.items() if field.is_required() and key not in node.value]
    for key, child in node.value.items():
        if key not in known and model.model_config.get("extra") != "allow":
            meant = nearest(key, missing) or nearest(key, known)
            hint = f'; did you mean "{meant}"?' if meant else f"; known here: {', '.join(known)}"
            absent = meant if meant not in node.value else None
            yield Problem(child.where, _join(path, key), f"unknown key{hint}", absent)
            missing = [name for name in missing if name != meant]
    for key in missing:
        yield Problem(node.where, _join(path, key), "is missing")


def _model_errors(model: Model, node: Node) -> list[str]:
    try:
        model.model_validate(plain(node))
    except ValidationError as error:
        return [str(item["msg"]).removeprefix("Value error, ") for item in error.errors(include_url=False)]
    return []


def _list(choices: list[Any], node: Node, path: str, rules: Rules) -> Iterator[Problem]:
    assert isinstance(node.value, list)
    lists = [choice for choice in choices if get_origin(choice) is tuple]
    if not lists:
        yield _unexpected(choices, node, path)
        return
    for index, child in enumerate(node.value):
        yield from problems(get_args(lists[0])[0], child, _join(path, str(index)), rules)


def _scalar(choices: list[Any], node: Node, path: str, rules: Rules) -> Iterator[Problem]:
    leaves = [choice for choice in choices if not _is_model(choice) and get_origin(choice) not in (tuple, dict)]
    failures = [_errors(leaf, node.value) for leaf in leaves]
    if not all(failures):
        return
    limits = [error for errors in failures for error in errors if not _is_about_type(error["type"])]
    key = path.rpartition(".")[2]
    yield Problem(node.where, path, _limit(key, limits[0], node, rules)) if limits else _unexpected(choices, node, path)


def _is_about_type(error: str) -> bool:
    return error.endswith(("_type", "_parsing")) or error in ("literal_error", "none_required", "int_from_float")


def _limit(key: str, error: Any, node: Node, rules: Rules) -> str:
    if error["type"] == "string_pattern_mismatch":
        said = f"must be {rules.patterns.get(key) or 'text that matches ' + error['ctx']['pattern']}"
    else:
        said = _LIMITS.get(error["type"], str(error["msg"])).format(**error.get("ctx", {}))
    why = rules.reasons.get((key, error["type"]))
    return f"{said}, got {_shown(node)}" + (f": {why}" if why else "")


def _unexpected(choices: list[Any], node: Node, path: str) -> Problem:
    words = [word for choice in choices for word in _described(choice)]
    hint = did_you_mean(node.value, words) if isinstance(node.value, str) else ""
    return Problem(node.where, path, f"expected {_listed(words)}, got {_shown(node)}{hint}")


def _described(choice: Any) -> list[str]:
    bare = get_args(choice)[0] if get_origin(choice) is Annotated else choice
    if get_origin(bare) is Literal:
        return [str(value) for value in get_args(bare)]
    if get_origin(bare) is tuple:
        return ["a list"] if get_args(bare) else ["[]"]
    if _is_model(bare):
        return [_shape(bare)]
    return [_WORDS.get(bare, "a mapping")]


def _shape(model: Model) -> str:
    if "kind" in model.model_fields:
        return f"{{kind: {_kinds([model])[0]}, ..}}"
    named = {field.alias or name: field.is_required() for name, field in model.model_fields.items()}
    shown = [key for key, required in named.items() if required] or [*named]
    return f"{{{', '.join(f'{key}: ..' for key in shown)}}}"


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=_STRICT)


def _errors(kind: Any, value: Any) -> list[Any]:
    try:
        _adapter(kind).validate_python(value)
    except ValidationError as error:
        return [*error.errors(include_url=False)]
    return []


def _field_type(field: FieldInfo) -> Any:
    annotated: Any = Annotated
    return annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _listed(words: list[str]) -> str:
    return " | ".join(dict.fromkeys(words))


def _shown(node: Node) -> str:
    """A value as an error prints it, cut short when long."""
    if isinstance(node.value, dict | list):
        return "a mapping" if isinstance(node.value, dict) else "a list"
    if node.value is None or isinstance(node.value, bool):
        return {None: "null", True: "true", False: "false"}[node.value]
    shown = repr(node.value) if isinstance(node.value, str) else f"{node.value}"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
