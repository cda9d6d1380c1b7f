"""The examples on the pages about users and authorizers of other applications work as they stand."""

import base64
import hashlib
import hmac
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from pydantic import TypeAdapter

from beaconfire_kit import outside_tokens, webhooks
from beaconfire_kit.authorizer import AuthorizerSetting, Question, read_answer
from beaconfire_kit.outside_issuer import OutsideIssuer
from beaconfire_kit.roles import Role
from beaconfire_kit.secret_files import Secret, read_secret
from beaconfire_kit.subjects import Pair
from tests.authorizers import write_secret
from tests.docs.tree import ROOT, blocks

USERS, AUTHORIZERS = "docs/howto/use_your_own_users.md", "docs/topics/authorizers.md"
BODY = b'{"userId":"shop-alice","roots":["depot:d1"]}'


def of(page: str, language: str) -> list[str]:
    return [block.text for block in blocks(page) if block.language == language]


def setting(block: str, path: Path) -> str:
    """The JSON that a block of commands exports, with another secret file."""
    found = re.search(r"='(\[.*?\])'\n", block, re.DOTALL)
    assert found is not None, block
    return re.sub(r"/run/secrets/[a-z-]+", str(path), found[1])


@pytest.fixture(name="secret")
def _secret(tmp_path: Path) -> Path:
    """A secret, as the page's first command makes one."""
    path = tmp_path / "shop"
    path.write_text(f"{bytes(range(32)).hex()}\n")
    return path


def test_token_of_the_first_example_is_accepted_with_its_setting(secret: Path) -> None:
    (issuer,) = TypeAdapter(tuple[OutsideIssuer, ...]).validate_json(setting(of(USERS, "sh")[0], secret))
    key = read_secret(str(secret))
    token = eval(of(USERS, "python")[0], {"jwt": jwt, "now": int(time.time()), "secret": key.value})

    assert outside_tokens.verify(token, {"s": key}, issuer).user_id == "shop-alice"


def test_grants_of_the_example_count_with_the_setting_beside_it(secret: Path) -> None:
    text = next(one for one in of(USERS, "json") if '"grants"' in one)
    issuer = OutsideIssuer.model_validate_json(text.replace("/run/secrets/shop", str(secret)))
    key = read_secret(str(secret))
    token = jwt.encode(eval(of(USERS, "python")[1], {"now": int(time.time())}), key.value)
    claims = outside_tokens.verify(token, {"s": key}, issuer)

    assert claims.grants == {Pair("depot", "d1"): Role.EDITOR, Pair("depot", "d2"): Role.VIEWER}


def test_every_reason_of_a_refusal_is_on_the_page() -> None:
    source = (ROOT / "shared/src/beaconfire_kit/tokens.py").read_text()
    found = re.search(r"Reason = Literal\[(.*?)\]", source, re.DOTALL)
    page = (ROOT / USERS).read_text()

    assert found is not None
    assert [reason for reason in re.findall(r'"([a-z_]+)"', found[1]) if f"`{reason}`" not in page] == []


def test_authorizers_setting_question_and_answer_are_valid(tmp_path: Path) -> None:
    secret = write_secret(tmp_path)
    TypeAdapter(tuple[AuthorizerSetting, ...]).validate_json(setting(of(AUTHORIZERS, "sh")[0], secret))
    question = Question.model_validate_json(of(AUTHORIZERS, "http")[0].strip().splitlines()[-1])
    answer = read_answer(of(AUTHORIZERS, "json")[0].encode(), question.roots)

    assert answer.roles == {"depot:d1": Role.EDITOR, "depot:d2": None}


CASES: list[tuple[bool, dict[str, str], bytes]] = [
    (True, {}, BODY),
    (True, {"two": "1"}, BODY),
    (False, {"webhook-id": "msg_2"}, BODY),
    (False, {"webhook-id": "msg.1"}, BODY),
    (False, {"webhook-timestamp": "17"}, BODY),
    (False, {"webhook-timestamp": "soon"}, BODY),
    (False, {"webhook-signature": "v1,AAAA"}, BODY),
    (False, {"webhook-signature": ""}, BODY),
    (False, {}, BODY + b" "),
]


def headers(change: dict[str, str], secret: Secret) -> dict[str, str]:
    secrets = [Secret(b"o" * 32), secret] if "two" in change else [secret]
    signed = webhooks.sign(secrets, BODY, message_id="msg_1", timestamp=int(time.time()))
    return {**signed, **{name: value for name, value in change.items() if name != "two"}}


@pytest.mark.parametrize(("is_valid", "change", "body"), CASES)
def test_python_example_verifies_a_request(is_valid: bool, change: dict[str, str], body: bytes) -> None:
    names: dict[str, Any] = {"hmac": hmac, "hashlib": hashlib, "base64": base64, "time": time}
    exec(of(AUTHORIZERS, "python")[0], names)
    secret = Secret(b"k" * 32)

    assert names["is_signed"](headers(change, secret), body, secret.value) is is_valid


def test_node_example_verifies_the_same_requests(tmp_path: Path) -> None:
    secret = Secret(b"k" * 32)
    (tmp_path / "verify.mjs").write_text(of(AUTHORIZERS, "js")[0])
    cases = [[headers(change, secret), body.decode()] for _, change, body in CASES]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    (tmp_path / "run.mjs").write_text(
        'import { readFileSync } from "node:fs";\n'
        'import { isSigned } from "./verify.mjs";\n'
        f'const secret = Buffer.from("{secret.value.decode()}");\n'
        'const cases = JSON.parse(readFileSync("cases.json"));\n'
        "console.log(JSON.stringify(cases.map(([headers, body]) => isSigned(headers, Buffer.from(body), secret))));\n"
    )
    ran = subprocess.run(["node", "run.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert json.loads(ran.stdout) == [is_valid for is_valid, _, _ in CASES]
