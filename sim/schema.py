"""JSON Schema of scenario files, for editors: one schema that holds each file against the kind that it is."""

from typing import Any

from pydantic.json_schema import models_json_schema

from sim.power_scenario import PowerScenario
from sim.scenario import SLOT_KEYS, Written

_TRAINS_ALONE = {
    "required": ["edge"],
    "properties": {"edge": {"type": "object", "required": ["server_tasks"]}},
    "not": {"anyOf": [{"required": [key]} for key in sorted(SLOT_KEYS)]},
}
"""As `sim.scenario.trains_alone` has it."""


def json_schema() -> dict[str, Any]:
    """A scenario with slots, or one of a power trainer by itself. `properties` names every key at the top of either."""
    kinds = (Written, PowerScenario)
    references, schema = models_json_schema([(kind, "validation") for kind in kinds], by_alias=True)
    slots, power = (references[kind, "validation"] for kind in kinds)
    keys = [field.alias or name for kind in kinds for name, field in kind.model_fields.items()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "EquiRAN scenario",
        "type": "object",
        "properties": {key: {} for key in dict.fromkeys(keys)},
        "if": _TRAINS_ALONE,
        "then": power,
        "else": slots,
        **schema,
    }
