"""Messages on which two checks could differ, each with its verdict by the old check and by the new one.

The old check read messages with event classes (pydantic), before the catalogue was data. Its verdicts are recorded in
`old_verdicts.json`, because it is gone. They were made with the last commit that had it:

    git worktree add ../old 37af6bf
    python -m tests.kit.catalogue.payloads ../old/shared/src > tests/kit/catalogue/old_verdicts.json

A verdict is `valid` or the reason of `InvalidEvent`.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OLD_VERDICTS = Path(__file__).with_name("old_verdicts.json")

TIME = "2026-11-21T10:00:00Z"
SETTLEMENT: dict[str, Any] = {
    "campaignId": "c1",
    "settlementId": "s1",
    "operation": "update",
    "changedFields": ["level"],
}
WORLD: dict[str, Any] = {
    "campaignId": "c1",
    "previousTime": "1000-01-01T08:00:00Z",
    "newTime": "1000-01-01T09:00:00Z",
    "elapsedSeconds": 3600,
}
STATE: dict[str, Any] = {"scope": "campaign", "campaignId": "c1", "affectedFields": ["income"]}
SUBJECTS = {
    "settlement_updated": "campaign.c1.settlement.s1",
    "world_time_changed": "campaign.c1.world_time",
    "state_invalidated": "campaign.c1.state",
}
GOOD = {"settlement_updated": SETTLEMENT, "world_time_changed": WORLD, "state_invalidated": STATE}


@dataclass(frozen=True, slots=True)
class Message:
    """A message, and the verdict that the new check must have."""

    name: str
    body: bytes
    verdict: str = "valid"
    type: str = "settlement_updated"

    @property
    def subject(self) -> str:
        return SUBJECTS[self.type]


def body(type_: str = "settlement_updated", payload: Any = None, metadata: Any = None, **fields: Any) -> bytes:
    """A good event, with these fields of it, of its payload and of its metadata."""
    whole = {
        "type": type_,
        "version": 1,
        "payload": {**GOOD[type_], **(payload or {})},
        "metadata": {"timestamp": TIME, "source": "api", **(metadata or {})},
        **fields,
    }
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()


def put(old: str, new: str | bytes, type_: str = "settlement_updated") -> bytes:
    """A good event with some of its bytes replaced."""
    whole = body(type_)
    assert whole.count(old.encode()) == 1, old
    return whole.replace(old.encode(), new if isinstance(new, bytes) else new.encode())


def extra(value: str) -> bytes:
    """A good event with an unknown key, whose value is written like this."""
    return put('"version":1', f'"version":1,"x":{value}')


def note(text: str) -> bytes:
    """A good event with a text of the payload, written like this."""
    return put('"level"', f'"{text}"')


def at(time: str) -> bytes:
    """A good event with this timestamp."""
    return body(metadata={"timestamp": time})


def world(old: str, new: str, verdict: str = "valid") -> tuple[bytes, str, str]:
    """A good event with a time and a number, changed; its verdict; its type."""
    return put(old, new, "world_time_changed"), verdict, "world_time_changed"


def lists(depth: int) -> bytes:
    return extra("[" * depth + "]" * depth)


def objects(depth: int) -> bytes:
    return extra('{"a":' * depth + "1" + "}" * depth)


HIDDEN = body().replace(b"10:", b"10\\u003a").replace(b'"source":"api"', b'"source":"api","source":"api"')

MESSAGES = (
    # Numbers.
    Message("integer written 3600.0", *world(":3600", ":3600.0")),
    Message("integer written 36e2", *world(":3600", ":36e2")),
    Message("integer with a fraction", *world(":3600", ":3600.5", "invalid")),
    Message("integer -0", *world(":3600", ":-0")),
    Message("integer -0.0", *world(":3600", ":-0.0")),
    Message("integer of 30 digits", *world(":3600", ":" + "9" * 30)),
    Message("integer beyond a double", *world(":3600", ":" + "9" * 400, "not_json")),
    Message("integer true", *world(":3600", ":true", "invalid")),
    Message("integer as a text", *world(":3600", ':"3600"', "invalid")),
    Message("integer null", *world(":3600", ":null", "invalid")),
    Message("integer with a leading zero", *world(":3600", ":03600", "not_json")),
    Message("integer with a plus", *world(":3600", ":+3600", "not_json")),
    Message("unknown number beyond 64 bits", extra("123456789012345678901234567890")),
    Message("unknown number beyond a double", extra("1e999"), "not_json"),
    Message("unknown number below a double", extra("1e-999")),
    Message("unknown number NaN", extra("NaN"), "not_json"),
    Message("unknown number -Infinity", extra("-Infinity"), "not_json"),
    Message("unknown number .5", extra(".5"), "not_json"),
    Message("unknown number 5.", extra("5."), "not_json"),
    Message("unknown number in hexadecimal", extra("0x10"), "not_json"),
    # The version.
    Message("version true", put('"version":1', '"version":true'), "unknown_version"),
    Message("version 1.0", put('"version":1', '"version":1.0'), "unknown_version"),
    Message("version 1e0", put('"version":1', '"version":1e0'), "unknown_version"),
    Message("version -1", put('"version":1', '"version":-1'), "unknown_version"),
    Message("version of 40 digits", put('"version":1', '"version":' + "1" * 40), "unknown_version"),
    Message("version missing", put('"version":1,', ""), "invalid"),
    # Texts.
    Message("text with NUL", note("a\\u0000b")),
    Message("text with a raw NUL", note("a\x00b"), "not_json"),
    Message("text with a raw tab", note("a\tb"), "not_json"),
    Message("text with half a surrogate", note("\\ud800"), "not_json"),
    Message("text with the other half of a surrogate", note("\\udc00"), "not_json"),
    Message("text with surrogates in the wrong order", note("\\udc00\\ud800"), "not_json"),
    Message("text with a pair of surrogates", note("\\ud83d\\ude00")),
    Message("text that is not UTF-8", put('"level"', b'"\xff"'), "not_json"),
    Message("text with a surrogate in UTF-8", put('"level"', b'"\xed\xa0\x80"'), "not_json"),
    Message("text with an overlong slash in UTF-8", put('"level"', b'"\xc0\xaf"'), "not_json"),
    Message("text beyond Unicode in UTF-8", put('"level"', b'"\xf4\x90\x80\x80"'), "not_json"),
    Message("text with an unknown escape", note("\\x41"), "not_json"),
    Message("text with DEL", note("a\x7fb")),
    Message("text with U+2028", note("a\u2028b")),
    Message("text empty", note("")),
    # Keys.
    Message("key in escapes", put('"changedFields"', '"\\u0063hangedFields"')),
    Message("key twice", put('"version":1', '"version":1,"version":1'), "not_json"),
    Message("key twice, once in escapes", put('"version":1', '"version":1,"versio\\u006e":1'), "not_json"),
    Message("key twice with white space", put('"version":1', '"version" : 1,"version"\n:1'), "not_json"),
    Message("key twice in an unknown object", extra('[{"y":1,"z":{"y":1,"y":2}}]'), "not_json"),
    Message("key twice, hidden by a colon in escapes", HIDDEN, "not_json"),
    Message("key empty", extra('{"":1}')),
    Message("keys that differ in normalisation", extra('{"\u00e9":1,"e\u0301":2}')),
    Message("unknown key in the payload", body(payload={"campaignName": "x", "more": {"deep": [1]}})),
    Message("unknown key in the metadata", body(metadata={"trace": None})),
    Message("unknown key with a name of ours in snake case", body(payload={"changed_fields": 5})),
    # The form of the JSON.
    Message("white space everywhere", json.dumps(json.loads(body()), indent=1).replace('":', '" :\t').encode()),
    Message("white space around", b" \r\n\t" + body() + b"\n "),
    Message("form feed around", body() + b"\x0c", "not_json"),
    Message("byte order mark", b"\xef\xbb\xbf" + body(), "not_json"),
    Message("UTF-16", body().decode().encode("utf-16"), "not_json"),
    Message("two values", body() + b" 1", "not_json"),
    Message("comma at the end", put('"level"]', '"level",]'), "not_json"),
    Message("comment", put('"version":1', '/**/"version":1'), "not_json"),
    Message("empty body", b"", "not_json"),
    Message("list", b"[]", "invalid"),
    Message("null", b"null", "invalid"),
    Message("200 nested objects", objects(199)),
    Message("201 nested objects", objects(200), "not_json"),
    Message("200 nested lists", lists(199)),
    Message("201 nested lists", lists(200), "not_json"),
    Message("5,000 nested lists", lists(5_000), "not_json"),
    # The timestamp.
    Message("timestamp with a space", at("2026-11-21 10:00:00Z")),
    Message("timestamp in lower case", at("2026-11-21t10:00:00z")),
    Message("timestamp with an underscore", at("2026-11-21_10:00:00Z"), "invalid"),
    Message("timestamp with a leap second", at("2016-12-31T23:59:60Z"), "invalid"),
    Message("timestamp at 24 o'clock", at("2026-11-21T24:00:00Z"), "invalid"),
    Message("timestamp without seconds", at("2026-11-21T10:00Z"), "invalid"),
    Message("timestamp without a zone", at("2026-11-21T10:00:00"), "invalid"),
    Message("timestamp with a zone without a colon", at("2026-11-21T10:00:00+0530")),
    Message("timestamp with a zone of hours", at("2026-11-21T10:00:00+05"), "invalid"),
    Message("timestamp with a minus sign of typography", at("2026-11-21T10:00:00\u221205:00")),
    Message("timestamp with a zone of a day", at("2026-11-21T10:00:00+24:00"), "invalid"),
    Message("timestamp with nine decimals", at("2026-11-21T10:00:00.123456789Z")),
    Message("timestamp with a comma", at("2026-11-21T10:00:00,5Z")),
    Message("timestamp with no decimals behind the point", at("2026-11-21T10:00:00.Z"), "invalid"),
    Message("timestamp on 29 February", at("2024-02-29T10:00:00Z")),
    Message("timestamp on 29 February of 1900", at("1900-02-29T10:00:00Z"), "invalid"),
    Message("timestamp on 31 April", at("2026-04-31T10:00:00Z"), "invalid"),
    Message("timestamp in the year 0", at("0000-01-01T00:00:00Z"), "invalid"),
    Message("timestamp in the year 1", at("0001-01-01T00:00:00Z")),
    Message("timestamp in Arabic digits", at("\u0662\u0660\u0662\u0666-11-21T10:00:00Z"), "invalid"),
    Message("timestamp with a line break at its end", at("2026-11-21T10:00:00Z\n"), "invalid"),
    Message("timestamp in escapes", put(f'"{TIME}"', f'"{TIME.replace(":", chr(92) + "u003a")}"')),
    Message("timestamp as a number", put(f'"{TIME}"', "1763719200"), "invalid"),
    # Times of the payload.
    Message("time with a space", *world("1000-01-01T08:00:00Z", "1000-01-01 08:00:00Z", "invalid")),
    Message("time in lower case", *world("1000-01-01T08:00:00Z", "1000-01-01t08:00:00z")),
    Message("time with a leap second", *world("1000-01-01T08:00:00Z", "2016-12-31T23:59:60Z")),
    Message("time with a zone without a colon", *world("1000-01-01T08:00:00Z", "1000-01-01T08:00:00+0000", "invalid")),
    Message("time with nine decimals", *world("1000-01-01T08:00:00Z", "1000-01-01T08:00:00.123456789Z")),
    Message("time with a comma", *world("1000-01-01T08:00:00Z", "1000-01-01T08:00:00,5Z", "invalid")),
    Message("time without a zone", *world("1000-01-01T08:00:00Z", "1000-01-01T08:00:00", "invalid")),
    Message("time without seconds", *world("1000-01-01T08:00:00Z", "1000-01-01T08:00Z", "invalid")),
    Message("time in the year 0", *world("1000-01-01T08:00:00Z", "0000-01-01T08:00:00Z")),
    Message("time on no such day", *world("1000-01-01T08:00:00Z", "1000-02-30T08:00:00Z", "invalid")),
    # Ids, sources, roles, nulls.
    Message("event id of 128 characters", body(id="x" * 128)),
    Message("event id of 129 characters", body(id="x" * 129), "invalid"),
    Message("event id empty", body(id=""), "invalid"),
    Message("event id null", body(id=None), "invalid"),
    Message("event id with a line break at its end", body(id="e1\n"), "invalid"),
    Message("event id that is not ASCII", body(id="\u00e9"), "invalid"),
    Message("campaign id missing", put('"campaignId":"c1",', ""), "invalid"),
    Message("campaign id of another", body(payload={"campaignId": "c2"}), "wrong_subject"),
    Message("campaign id with a line break at its end", body(payload={"campaignId": "c1\n"}), "invalid"),
    Message("source in capitals", body(metadata={"source": "API"}), "invalid"),
    Message("source with a line break at its end", body(metadata={"source": "api\n"}), "invalid"),
    Message("user id null", body(metadata={"userId": None})),
    Message("correlation id with a space", body(metadata={"correlationId": "a b"}), "invalid"),
    Message("audience empty", body(metadata={"audience": []})),
    Message("audience with a role twice", body(metadata={"audience": ["owner", "owner"]})),
    Message("audience in capitals", body(metadata={"audience": ["OWNER"]}), "invalid"),
    Message("audience as an object", body(metadata={"audience": {"owner": 1}}), "invalid"),
    Message("null for an optional id", body("state_invalidated", payload={"entityId": None}), type="state_invalidated"),
    Message("null in a list of texts", body(payload={"changedFields": [None]}), "invalid"),
    Message("list of texts empty", body(payload={"changedFields": []})),
    Message("payload null", put(json.dumps(SETTLEMENT, separators=(",", ":")), "null"), "invalid"),
    Message("metadata missing", b'{"type":"settlement_updated","version":1,"payload":{}}', "invalid"),
    Message("type in capitals", put("settlement_updated", "Settlement_Updated"), "unknown_type"),
    Message("type with NUL", put("settlement_updated", "settlement_updated\\u0000"), "unknown_type"),
)


def _judge_by_the_old_check(sources: str) -> dict[str, str]:
    sys.path.insert(0, sources)
    from beaconfire_kit.envelope import InvalidEvent, check  # type: ignore[attr-defined]

    verdicts: dict[str, str] = {}
    for message in MESSAGES:
        try:
            check(message.subject, message.body)
            verdicts[message.name] = "valid"
        except InvalidEvent as error:
            verdicts[message.name] = error.reason
    return verdicts


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_judge_by_the_old_check(sys.argv[1]), indent=2) + "\n")
