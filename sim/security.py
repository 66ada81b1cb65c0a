"""How edge and users know each other, as a scenario says it."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from edge_server.config_base import Config

_TOKEN = re.compile(r"[!-~]{16,1024}")


class Token(Config):
    """A secret word on every stream: the text of a file, of an environment variable, or one made up for the run."""

    kind: Literal["token"]
    file: str | None = None
    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> "Token":
        if self.file is not None and self.env is not None:
            raise ValueError("the token comes from a file or from env; give one of them")
        return self


class Mtls(Config):
    """TLS, with a certificate of the edge and certificates of users; `folder` as `equiran certs` writes it.

    Without a folder they are made up for the run, and stay in memory.
    """

    kind: Literal["mtls"]
    folder: str | None = None


Security: TypeAlias = Token | Mtls


def read_token(file: str | None, env: str | None) -> str:
    """The token in a file, or else in an environment variable. Raises ValueError, which never shows it."""
    place = file if file is not None else f"environment variable {env}"
    try:
        said = Path(file).read_text(encoding="ascii") if file is not None else os.environ[env or ""]
    except KeyError:
        raise ValueError(f"{place} is not set") from None
    except OSError as error:
        raise ValueError(f"{place}: {error.strerror}") from None
    except UnicodeDecodeError:
        said = ""
    if not _TOKEN.fullmatch(token := said.strip()):
        raise ValueError(f"{place} holds no token: 16 to 1024 visible ASCII characters, no spaces")
    return token


def missing(folder: str) -> list[str]:
    """What an edge needs of a folder of certificates, and is not there."""
    return [name for name in ("ca.pem", "edge.pem", "edge.key", "revoked.txt") if not (Path(folder) / name).is_file()]
