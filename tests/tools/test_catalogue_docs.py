"""`beaconfire catalogue docs|types|asyncapi` of files and of a deployment."""

import asyncio
import json
from pathlib import Path

import jsonschema
import pytest

from beaconfire.nats_server import NatsServer
from beaconfire_kit.stream_setup import declare_stream
from tests.conftest import connected
from tests.kit.catalogue.specification import SPECIFICATION
from tests.tools.conftest import Call
from tests.tools.derived.catalogues import LOGISTICS


@pytest.fixture(name="declared")
def _declared(nats_server: NatsServer) -> NatsServer:
    async def declare() -> None:
        async with connected(nats_server, "setup") as nc:
            await declare_stream(nc)

    asyncio.run(declare())
    return nats_server


def test_docs_of_a_file_are_a_page_with_its_events_and_those_of_the_system(call: Call, tmp_path: Path) -> None:
    said = call("catalogue", "docs", str(LOGISTICS), "--out", str(tmp_path / "site"))
    page = (tmp_path / "site" / "events.html").read_text()

    assert said.text == f"wrote {tmp_path}/site/events.html\n"
    for title in ("parcel.moved", "member_changed"):
        assert f'<article id="event-{title}"' in page
    assert "settlement_updated" not in page


def test_docs_in_markdown_can_be_printed(call: Call) -> None:
    said = call("catalogue", "docs", str(LOGISTICS), "--format", "markdown", "--out", "-")

    assert said.text.startswith("# Events\n")
    assert "### parcel.moved\n" in said.text


@pytest.mark.parametrize(
    ("lang", "words"), [("ts", "export interface ParcelMoved {"), ("python", "class ParcelMoved(")]
)
def test_types_of_a_file_are_printed_or_written(lang: str, words: str, call: Call, tmp_path: Path) -> None:
    printed = call("catalogue", "types", "--lang", lang, str(LOGISTICS))
    call("catalogue", "types", "--lang", lang, "--out", str(tmp_path / "events"), str(LOGISTICS))

    assert words in printed.text
    assert (tmp_path / "events").read_text() == printed.text


def test_docs_types_and_asyncapi_of_a_deployment_have_what_was_pushed(call: Call, declared: NatsServer) -> None:
    environment = declared.environment("catalogue")
    call("catalogue", "push", str(LOGISTICS), **declared.environment("setup"))
    page = call("catalogue", "docs", "--out", "-", **environment)
    types = call("catalogue", "types", **environment)
    document = json.loads(call("catalogue", "asyncapi", **environment).text)

    jsonschema.validate(document, SPECIFICATION)

    assert document["info"]["version"] == "2"
    assert {"parcel.moved.v1", "settlement_updated.v1"} <= document["components"]["messages"].keys()
    assert "revision 2" in page.text
    assert '"parcel.moved": EventMessage<"parcel.moved", 1, ParcelMoved>' in types.text
    assert "export interface SettlementUpdated {" in types.text


def test_file_with_a_mistake_is_refused_with_its_line_and_writes_nothing(call: Call, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(LOGISTICS.read_text().replace("depot.{depotId}.parcel", "hangar.{depotId}.parcel"))

    said = call("catalogue", "docs", str(wrong), "--out", str(tmp_path))

    assert said.exit_code == 1
    assert f"{wrong}:" in said.text
    assert "no fragment declares the root `hangar`" in said.text
    assert not (tmp_path / "events.html").exists()


def test_folder_that_cannot_be_written_is_one_sentence(call: Call) -> None:
    said = call("catalogue", "docs", str(LOGISTICS), "--out", "/proc/nowhere")

    assert said.exit_code == 1
    assert "/proc/nowhere/events.html cannot be written: " in said.text
