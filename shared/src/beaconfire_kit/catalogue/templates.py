"""Parse subject templates: `depot.{depotId}.parcel.{parcelId}`. No I/O.

A template is a subject in which every id is a `{parameter}`. Kinds and the aspect are words. A kind inside the root may
be a parameter, too, as in `campaign.{campaignId}.{entityType}.{entityId}`.
"""

from dataclasses import dataclass
from functools import lru_cache

from beaconfire_kit.catalogue.fragment import PARAMETER
from beaconfire_kit.subjects import ID_PATTERN, MAX_TOKENS, is_id, is_reserved


class InvalidTemplate(ValueError):
    """The address cannot be the subject of events. The text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Template:
    """A valid template."""

    text: str
    root: str
    """The kind of its root."""
    inner_kinds: tuple[str, ...]
    """The kinds of the pairs inside the root. Those that are parameters are left out."""
    parameters: tuple[str, ...]
    """Their names, in order, each once."""


@lru_cache(maxsize=20_000)  # each new revision parses all of them again, in every gateway, between two events
def parse_template(address: str) -> Template:
    """Parse the address of a channel. Raises InvalidTemplate."""
    if len(address) > 2_000:
        raise InvalidTemplate(f"The address has {len(address)} characters. A subject has at most {MAX_TOKENS} tokens.")
    tokens = address.split(".")
    if len(tokens) > MAX_TOKENS:
        raise InvalidTemplate(f"{address!r} has {len(tokens)} tokens. A subject has at most {MAX_TOKENS}.")
    for token in tokens:
        _check_token(address, token)
    root = tokens[0]
    if PARAMETER.fullmatch(root):
        raise InvalidTemplate(f"{address!r} begins with a parameter. Begin it with the kind of its root, like `depot`.")
    if root == "ephemeral":
        raise InvalidTemplate(
            f"{address!r} begins with `ephemeral`. Leave it out of the address, and write "
            "`x-beaconfire: {ephemeral: true}` into the message."
        )
    if is_reserved(root):
        raise InvalidTemplate(
            f"{address!r} begins with {root!r}, which the broker's own traffic uses. Rename the root."
        )
    if len(tokens) < 2:
        raise InvalidTemplate(f"{address!r} has no id. A subject begins with a root and its id: `depot.{{depotId}}`.")
    for kind, id_ in zip(tokens[::2], tokens[1::2], strict=False):
        if not PARAMETER.fullmatch(id_):
            raise InvalidTemplate(
                f"{address!r} has the word {id_!r} where the id of {kind!r} must be. Every second token is an id, "
                "written as a {parameter}. Only the last token may be a word without an id."
            )
    _check_system(address, tokens)
    if len(tokens) % 2 and PARAMETER.fullmatch(tokens[-1]):
        raise InvalidTemplate(
            f"{address!r} ends in the parameter {tokens[-1]}, which has no kind before it. "
            "Write pairs of a kind and an id, like `parcel.{parcelId}`."
        )
    kinds = tokens[2 : len(tokens) - len(tokens) % 2 : 2]
    return Template(
        address,
        root,
        tuple(kind for kind in kinds if not PARAMETER.fullmatch(kind)),
        tuple(dict.fromkeys(PARAMETER.findall(address))),
    )


def _check_token(address: str, token: str) -> None:
    if not token:
        raise InvalidTemplate(f"{address!r} has an empty token. Take the superfluous dot away.")
    if token in ("*", ">"):
        raise InvalidTemplate(f"{address!r} has the wildcard {token!r}. Write a {{parameter}} for an id.")
    if ("{" in token or "}" in token) and not PARAMETER.fullmatch(token):
        raise InvalidTemplate(
            f"{token!r} in {address!r} is not one {{parameter}}. A parameter is a whole token, and its name has "
            "letters, digits, `_` and `-`."
        )
    if not PARAMETER.fullmatch(token) and not is_id(token):
        raise InvalidTemplate(f"{token!r} in {address!r} is not a word of {ID_PATTERN}. Use other characters.")


def _check_system(address: str, tokens: list[str]) -> None:
    """Refuse the subjects on which only auth publishes."""
    if tokens[2:3] == ["member"]:
        raise InvalidTemplate(
            f"{address!r} uses `member` directly below a root. Only membership changes have such subjects: "
            "use another word."
        )
    if tokens[0] == "user" and tokens[2:] == ["access"]:
        raise InvalidTemplate(f"{address!r} is the subject of revoked access. Use another word than `access`.")
