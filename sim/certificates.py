"""Development certificates: an authority of one's own, and what it certifies for the edge, for users and for hosts."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protos import USER_URI

MOST_USERS = 64
"""In one certificate: gRPC breaks connections off for 150 of the longest names, 12 kB; not for 100, 8 kB."""

_YEAR, _SLACK = timedelta(days=365), timedelta(hours=1)
_AUTHORITY_YEARS = 10
_PEM = Encoding.PEM


class Pair(NamedTuple):
    """A certificate and its private key, PEM."""

    chain: str
    key: str

    @property
    def certificate(self) -> x509.Certificate:
        """The first of the chain."""
        return x509.load_pem_x509_certificate(self.chain.encode())


class Authority:
    """Whose certificates edge and users take."""

    def __init__(self, pair: Pair):
        """Raises ValueError for a key that is not that of the certificate."""
        self.pair, self._certificate = pair, pair.certificate
        key = load_pem_private_key(pair.key.encode(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not fits(pair):
            raise ValueError("the authority's key is not that of its certificate")
        self._key = key

    @classmethod
    def create(cls) -> "Authority":
        """A new one, for ten years."""
        key, name, now = ec.generate_private_key(ec.SECP256R1()), _name("EquiRAN development CA"), datetime.now(UTC)
        draft = _draft(name, name, key.public_key(), now, _AUTHORITY_YEARS * _YEAR)
        draft = draft.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        draft = draft.add_extension(_usage(signs_certificates=True), critical=True)
        return cls(Pair(_text(draft.sign(key, hashes.SHA256())), _private(key)))

    def edge(self, names: Sequence[str]) -> Pair:
        """For an edge that is reached under these host names and IP addresses."""
        return self._issue("edge", [_address(name) for name in names], ExtendedKeyUsageOID.SERVER_AUTH, None)

    def speaker(self, name: str, users: Sequence[str], since: datetime | None = None) -> Pair:
        """For whoever speaks for these users. since: it is good for a year from then, or from now."""
        if len(users) > MOST_USERS:
            raise ValueError(f"{name} speaks for {len(users)} users; a certificate names at most {MOST_USERS}")
        names = [x509.UniformResourceIdentifier(USER_URI + user) for user in users]
        return self._issue(name, names, ExtendedKeyUsageOID.CLIENT_AUTH, since)

    def _issue(
        self, name: str, names: Sequence[x509.GeneralName], use: x509.ObjectIdentifier, since: datetime | None
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        draft = _draft(_name(name), self._certificate.subject, key.public_key(), since or datetime.now(UTC), _YEAR)
        draft = draft.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        draft = draft.add_extension(_usage(signs_certificates=False), critical=True)
        draft = draft.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        draft = draft.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Pair(_text(draft.sign(self._key, hashes.SHA256())), _private(key))


def fits(pair: Pair) -> bool:
    """The key is that of the certificate."""
    ours = (
        load_pem_private_key(pair.key.encode(), None).public_key().public_bytes(_PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return ours == pair.certificate.public_key().public_bytes(_PEM, PublicFormat.SubjectPublicKeyInfo)


def users_of(certificate: x509.Certificate) -> list[str]:
    """The users that it names."""
    uris = _names(certificate).get_values_for_type(x509.UniformResourceIdentifier)
    return [uri.removeprefix(USER_URI) for uri in uris if uri.startswith(USER_URI)]


def addresses_of(certificate: x509.Certificate) -> list[str]:
    """The host names and IP addresses that it names."""
    names = _names(certificate)
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def require_good(pair: Pair, authority: str) -> None:
    """Raises ValueError unless the pair is one, of this authority (PEM), and good today."""
    certificate, now = pair.certificate, datetime.now(UTC)
    if not fits(pair):
        raise ValueError("the key is not that of the certificate")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        until = f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
        raise ValueError(f"it is good from {until}, not today")
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.encode()))
    except Exception as error:  # whatever the library makes of a signature
        raise ValueError("it is not of the authority in ca.pem") from error


def _names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])


def _draft(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, since: datetime, life: timedelta
) -> x509.CertificateBuilder:
    """Not yet signed; good a little earlier than `since`, for clocks that go slow."""
    draft = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    draft = draft.serial_number(x509.random_serial_number())
    return draft.not_valid_before(since - _SLACK).not_valid_after(since + life)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(said: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, said)])


def _address(said: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(said))
    except ValueError:
        return x509.DNSName(said)


def _text(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(_PEM).decode()


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(_PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
