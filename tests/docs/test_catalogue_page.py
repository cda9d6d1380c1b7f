"""The examples and limits of docs/reference/catalogue.md are those of the code."""

import json
import re

import yaml

from beaconfire_kit import event as event_module
from beaconfire_kit import subjects
from beaconfire_kit.catalogue import keywords, patterns, plain, profile, schema_cost
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.profile import read_fragment
from beaconfire_kit.catalogue.templates import InvalidTemplate, parse_template
from beaconfire_kit.event import event_classes
from tests.architecture.sources import ROOT

PAGE = (ROOT / "docs" / "reference" / "catalogue.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FRAGMENT = next(yaml.safe_load(text) for language, text in BLOCKS if language == "yaml")


def test_pasted_fragment_is_valid_and_the_event_fits_it() -> None:
    fragment = read_fragment(FRAGMENT)
    event = next(text for language, text in BLOCKS if language == "json")

    checked = Catalogue.of(1, {"logistics": fragment}).check("depot.d1.parcel.p1", event.encode())

    assert fragment.warnings == ()
    assert checked.payload == json.loads(event)["payload"]


def test_parts_of_documents_fit_into_the_fragment() -> None:
    others = [yaml.safe_load(text) for language, text in BLOCKS if language == "yaml"][1:]
    lost = FRAGMENT["channels"]["parcel"]["messages"]["parcel.lost"]
    for part in others:
        if "payload" in part:
            document = {
                **FRAGMENT,
                "channels": {"a": {"address": "depot.{depotId}", "messages": {"b": {**lost, **part}}}},
            }
        elif "components" in part:
            schema = {"$ref": "#/components/schemas/Comment"}
            message = {"b": {"payload": {"type": "object", "properties": {"c": schema}}}}
            document = {**FRAGMENT, **part, "channels": {"a": {"address": "depot.{depotId}", "messages": message}}}
        elif "parameters" in part:
            document = {**FRAGMENT, "channels": {"parcel": {**FRAGMENT["channels"]["parcel"], **part}}}
        else:
            document = {**FRAGMENT, **part}
        assert read_fragment(document).warnings == ()


def test_addresses_are_allowed_or_refused_as_the_page_says() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \| (its events|ends|the second|refused)", PAGE, re.MULTILINE)
    assert len(rows) == 8
    for addresses, what in rows:
        for address in re.findall("`([^`]+)`", addresses):
            try:
                parse_template(address)
                refused = False
            except InvalidTemplate:
                refused = True
            assert refused is (what == "refused"), address


def test_limits_are_those_of_the_code() -> None:
    section = PAGE.partition("\n## Limits\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE))

    assert list(rows.values())[1:] == [
        f"{plain.MAX_BYTES // 1024} KiB",
        f"{profile.MAX_TYPES:,}",
        f"{plain.MAX_DEPTH} levels",
        str(subjects.MAX_TOKENS),
        f"{schema_cost.MAX_SIZE:,}",
        f"{schema_cost.MAX_DEPTH} levels",
        str(schema_cost.MAX_CHECKS),
        str(schema_cost.MAX_SCANS),
        f"{patterns.MAX_BYTES // 1024} KiB",
        "at least 1e-9; inside lists, a whole number",
        "64 bits",
    ]
    assert keywords.MIN_MULTIPLE == 1e-9


def test_formats_and_reserved_kinds_are_those_of_the_code() -> None:
    text = " ".join(PAGE.split())
    formats = text.partition("**Formats are checked**: ")[2].partition(". ")[0]
    reserved = text.partition("Reserved kinds are ")[2].partition(", and every kind")[0]

    assert set(re.findall("`([^`]+)`", formats)) == keywords.FORMATS
    assert set(re.findall("`([^`]+)`", reserved)) == subjects.RESERVED_KINDS | {"member"}


def test_python_example_makes_a_fragment() -> None:
    code = next(text for language, text in BLOCKS if language == "python")
    known = dict(event_module._registry)
    names: dict[str, object] = {"__name__": __name__}
    try:
        exec(code, names)
        fragment = read_fragment(names["document"])  # type: ignore[arg-type]
    finally:
        event_module._registry.clear()
        event_module._registry.update(known)

    assert ("parcel.moved", 1) in fragment.types
    assert not [cls for cls in event_classes() if cls.__module__ == __name__]
