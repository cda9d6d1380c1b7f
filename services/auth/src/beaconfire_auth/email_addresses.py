"""Parse e-mail addresses: the form that is shown, and the one form in which they are compared.

    address = new_address(" Ann@Bücher.example ")       # at sign-up; raises ValueError with what is wrong
    address.shown        # "ann@bücher.example"
    address.canonical    # "ann@xn--bcher-kva.example"

Whether an address exists is not checked. Only a message to it could show that.
"""

import hashlib
import unicodedata
from dataclasses import dataclass

import email_validator
import idna
from email_validator import EmailNotValidError
from pydantic_core import CoreSchema, core_schema

from beaconfire_kit.names import is_unseen

MAX_ADDRESS = 254
_MAX_TYPED = 1_000  # before invisible characters are removed

# Addresses of a private network are allowed. `.invalid` is for the placeholder addresses of outside users.
email_validator.SPECIAL_USE_DOMAIN_NAMES[:] = ["invalid"]


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """An e-mail address. `before` is the form in which addresses were compared earlier; old accounts may need it."""

    shown: str
    canonical: str
    before: str

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> CoreSchema:
        """Requests contain a text, from which the address is parsed. Its parts are never sent."""
        return core_schema.is_instance_schema(cls)


def new_address(text: str) -> EmailAddress:
    """Parse the address of a new account. Raises ValueError with what is wrong."""
    if len(text) > _MAX_TYPED:
        raise ValueError(f"not an e-mail address: it has more than {MAX_ADDRESS} characters")
    local, at, domain = text.strip().rpartition("@")
    typed = f"{_without_unseen(local)}{at}{domain}"
    try:
        shown = _validated(typed)
    except EmailNotValidError as error:
        try:  # a joiner may belong to a domain, or be there by mistake
            shown = _validated(_without_unseen(typed))
        except EmailNotValidError:
            raise ValueError(f"not an e-mail address: {error}") from None
    return EmailAddress(shown, canonical(shown), _before(text))


def known_address(text: str) -> EmailAddress:
    """Parse an address that a caller names. It is less strict, because old accounts were created without rules."""
    form = canonical(text) if len(text) <= _MAX_TYPED else ""
    local, _, domain = form.rpartition("@")
    if not local or not domain or "\0" in text:  # PostgreSQL does not accept NUL
        raise ValueError("not an e-mail address")
    return EmailAddress(_before(text), form, _before(text))


def canonical(text: str) -> str:
    """Return the form in which addresses are compared. It is the same for two that look alike or reach one mailbox.

    Invisible characters are removed, compatible characters (full width, ligatures) are replaced, letters are lower case
    and composed, and the domain is in IDNA's ASCII form. It is stored, so a change needs a migration of `users`.
    """
    text = unicodedata.normalize("NFKC", _without_unseen(text)).strip().lower()
    local, at, domain = unicodedata.normalize("NFKC", text).rpartition("@")
    form = f"{local}{at}{_ascii(domain)}"
    return form if len(form) <= MAX_ADDRESS else hashlib.sha256(form.encode(errors="surrogatepass")).hexdigest()


def _validated(text: str) -> str:
    checked = email_validator.validate_email(text, strict=True, check_deliverability=False, globally_deliverable=False)
    return checked.normalized.lower()


def _before(text: str) -> str:
    return text.strip().lower()


def _ascii(domain: str) -> str:
    domain = domain.rstrip(".")
    try:
        return idna.encode(domain, uts46=True).decode()
    except UnicodeError:
        return domain


def _without_unseen(text: str) -> str:
    return "".join(letter for letter in text if not is_unseen(letter))
