"""A scenario as text: what ran, with every default filled in."""

from typing import Any

import yaml

from edge_server.config_base import Config
from sim.overrides import crowd_names
from sim.yaml_lines import scalar

_MANY = 100
"""Users beyond which a crowd is written as one: a file of thousands takes long to read, and has a limit."""

_Emitter: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""Ten times as fast where PyYAML was built with libyaml."""


class _Dumper(_Emitter):  # type: ignore[misc]  # libyaml may not be there
    """Block style, no aliases, and quotes around text that would read as something else."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if scalar(text) == text else "'")


_Dumper.add_representer(str, _text)


def effective(scenario: Config) -> str:
    """The scenario as YAML that runs as it is, from any folder, and loads to an equal one."""
    tree = scenario.model_dump(mode="json", by_alias=True)
    if len(tree.get("users", ())) > _MANY:
        tree["users"] = _as_crowd(tree["users"])
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _as_crowd(users: list[dict[str, Any]]) -> Any:
    """Users who differ in their numbers alone, as `{count, template}`; others as they are."""
    stem = users[0]["name"].rpartition("_")[0]
    template = {**users[0], "name": stem}
    alike = all({**user, "name": stem} == template for user in users)
    numbered = stem and [user["name"] for user in users] == crowd_names(stem, len(users))
    return {"count": len(users), "template": template} if alike and numbered else users


def inline(value: Any) -> str:
    """A value of a scenario on one line, as `--set` reads it."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=1 << 30)
    return text.removesuffix("\n").removesuffix("\n...")
