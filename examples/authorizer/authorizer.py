"""Decide who may see which depot. Usage: python authorizer.py PORT SECRET_FILE ROLES_FILE

ROLES_FILE is {"version": 1, "roles": {"depot:d1": {"shop-alice": "editor"}}}. Yours is a query of your database.
"""

import base64
import hashlib
import hmac
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

PORT, SECRET_FILE, ROLES_FILE = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
SECRET = base64.b64decode(SECRET_FILE.read_text().strip().removeprefix("whsec_"))


def is_signed(headers: Mapping[str, str], body: bytes) -> bool:
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if "." in message_id or not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > 300:
        return False
    mac = hmac.new(SECRET, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    wanted = b"v1," + base64.b64encode(mac)
    given = headers.get("webhook-signature", "").encode(errors="replace").split(b" ")
    return any(hmac.compare_digest(one, wanted) for one in given)


async def authorize(request: web.Request) -> web.Response:
    body = await request.read()  # aiohttp answers 413 to more than `client_max_size`
    if not is_signed(request.headers, body):
        return web.json_response({"error": "not signed with our secret, or not just now"}, status=401)
    try:
        question = json.loads(body)
        user, roots = str(question["userId"]), [str(root) for root in question["roots"]]
    except (ValueError, KeyError, TypeError):
        return web.json_response({"error": "expected userId and roots"}, status=400)
    known = json.loads(ROLES_FILE.read_text())
    roles = {root: known["roles"].get(root, {}).get(user) for root in roots}
    return web.json_response({"version": known["version"], "roles": roles})


app = web.Application(client_max_size=64 * 1024)
app.router.add_post("/authorize", authorize)
web.run_app(app, host="127.0.0.1", port=PORT, print=lambda *_: None)
