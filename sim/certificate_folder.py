"""The folder that `equiran certs` writes, and that `security: {kind: mtls, folder: ..}` names.

ca.pem, ca.key; edge.pem, edge.key; users/NAME.pem, .key; hosts/NAME.pem, .key; revoked.txt.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from edge_server.credentials import fingerprint
from sim.certificates import Authority, Pair, addresses_of, require_good, users_of

REVOKED = "revoked.txt"
_ALL = ("0.0.0.0", "[::]")
_HEAD = "# SHA-256 fingerprints of revoked certificates, one a line; the edge reads this file again when it changes\n"


class Issued(NamedTuple):
    """A certificate that was written. name: users/a, hosts/b, edge. names: whom or what it stands for."""

    name: str
    names: list[str]
    until: datetime
    fingerprint: str


def issue(
    folder: Path, addresses: Sequence[str], users: Sequence[str], hosts: Mapping[str, Sequence[str]]
) -> list[Issued]:
    """Writes certificates for the edge, each user and each host; the authority of the folder is made if there is none.

    Raises ValueError for names that no certificate can bear, OSError.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    authority = _authority(folder)
    pairs = {"edge": authority.edge(addresses)}
    pairs |= {f"users/{user}": authority.speaker(user, [user]) for user in users}
    pairs |= {f"hosts/{host}": authority.speaker(host, carried) for host, carried in hosts.items()}
    for name, pair in pairs.items():
        _write(folder, name, pair)
    if not (folder / REVOKED).exists():
        _private(folder / REVOKED, _HEAD)
    return [_issued(name, pair) for name, pair in pairs.items()]


def authority_of(folder: Path) -> str:
    """The authority's certificate, PEM. Raises OSError."""
    return (folder / "ca.pem").read_text(encoding="ascii")


def pair_of(folder: Path, name: str) -> Pair:
    """A certificate that was issued, and its key. Raises ValueError, naming the file, unless it is good today."""
    try:
        pair = _read(folder, name)
        require_good(pair, authority_of(folder))
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}; make it with: equiran certs") from error
    except ValueError as error:
        raise ValueError(f"{folder / name}.pem: {error}") from error
    return pair


def edge_pair(folder: Path, address: str) -> Pair:
    """That of the edge, for this address; one that stands for all addresses fits any. Raises ValueError."""
    pair = pair_of(folder, "edge")
    if address not in _ALL and address.strip("[]") not in (known := addresses_of(pair.certificate)):
        raise ValueError(f"{folder}/edge.pem is for {', '.join(known)}, and the edge is at {address}")
    return pair


def require_all(folder: Path, users: Sequence[str]) -> None:
    """Raises ValueError unless the edge and each of these users, or a host of it, have good certificates."""
    pair_of(folder, "edge")
    carried = {user for pair in _hosts(folder) for user in users_of(pair.certificate)}
    for user in users:
        if user not in carried:
            pair_of(folder, f"users/{user}")


def host_pair(folder: Path, users: Sequence[str]) -> Pair | None:
    """That of the first host, by name, that speaks for all these users. Raises ValueError."""
    return next((pair for pair in _hosts(folder) if {*users} <= {*users_of(pair.certificate)}), None)


def _hosts(folder: Path) -> Iterator[Pair]:
    for file in sorted((folder / "hosts").glob("*.pem")):
        yield pair_of(folder, f"hosts/{file.stem}")


def _authority(folder: Path) -> Authority:
    if (folder / "ca.pem").exists():
        return Authority(_read(folder, "ca"))
    authority = Authority.create()
    _write(folder, "ca", authority.pair)
    return authority


def _issued(name: str, pair: Pair) -> Issued:
    certificate = pair.certificate
    names = users_of(certificate) or addresses_of(certificate)
    return Issued(name, names, certificate.not_valid_after_utc, fingerprint(pair.chain))


def _read(folder: Path, name: str) -> Pair:
    return Pair(*((folder / f"{name}.{ending}").read_text(encoding="ascii") for ending in ("pem", "key")))


def _write(folder: Path, name: str, pair: Pair) -> None:
    os.makedirs((folder / name).parent, mode=0o700, exist_ok=True)
    for ending, text in zip(("pem", "key"), pair, strict=True):
        _private(folder / f"{name}.{ending}", text)


def _private(path: Path, text: str) -> None:
    """A file that its owner alone may read, from the first moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
