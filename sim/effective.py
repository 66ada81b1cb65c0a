"""A scenario as text: what ran, with every default filled in."""

from typing import Any

import yaml

from edge_server.config_base import Config
from sim.yaml_lines import scalar

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
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def inline(value: Any) -> str:
    """A value of a scenario on one line, as `--set` reads it."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=1 << 30)
    return text.removesuffix("\n").removesuffix("\n...")
