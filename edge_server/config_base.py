"""What every part of a scenario's tree is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """Frozen; unknown keys, NaN and infinities are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Own = Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
"""`module:Class`, a part of somebody's own."""
Args = dict[str, int | float | str | bool]
"""What goes to its constructor by name."""
