"""docs/howto/use_the_admin_page.md: the lines for a proxy work, and the page names each of its settings."""

import asyncio
import re
import shutil
import sys
from pathlib import Path

import aiohttp

from beaconfire.admin.settings import Settings
from beaconfire.nats_server import free_port
from beaconfire.service_settings import variables
from tests.admin_page import OPERATOR, admin_page
from tests.architecture.sources import ROOT

PAGE = (ROOT / "docs/howto/use_the_admin_page.md").read_text()
CADDY = "{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n}\nhttp://127.0.0.1:%d {\n\tbind 127.0.0.1\n%s}\n"
PATIENCE_S = 20.0


async def test_documented_lines_of_a_caddyfile_serve_the_page_below_a_path(tmp_path: Path) -> None:
    (lines,) = re.findall(r"```\n(redir .*?)```", PAGE, re.DOTALL)
    port, program = free_port(), shutil.which("caddy", path=Path(sys.executable).parent)
    assert program
    token = {"Authorization": f"Bearer {OPERATOR}"}
    async with admin_page() as url, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        (tmp_path / "Caddyfile").write_text(CADDY % (port, lines.replace("admin:8080", url.removeprefix("http://"))))
        process = await asyncio.create_subprocess_exec(program, "run", cwd=tmp_path, stderr=asyncio.subprocess.DEVNULL)
        try:
            await _listens(port)
            async with http.get("/admin") as page:
                opened, text = str(page.url), await page.text()
            names = re.findall(r'(?:src|href)="([a-z][^"]*)"', text)
            files = [(await http.get(f"/admin/{name}")).status for name in names]
            seen = await http.get("/admin/api/v1/admin/me", headers=token)
            own = {**token, "Origin": f"http://127.0.0.1:{port}"}
            acted = await http.post("/admin/api/v1/admin/sessions/s1/disconnect", headers=own)
        finally:
            process.kill()
            await process.wait()

    assert opened.endswith("/admin/")
    assert len(names) >= 4
    assert files == [200] * len(names)
    assert (seen.status, acted.status) == (200, 404)  # there is no such session, and it was looked for


async def _listens(port: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


def test_page_names_the_settings_that_only_the_admin_page_has() -> None:
    own = set(Settings.__annotations__) - {"port"}

    assert own
    assert {name for name in variables(Settings) if name.removeprefix("BEACONFIRE_").lower() in own} <= set(
        re.findall(r"BEACONFIRE_[A-Z_]+[A-Z]", PAGE)
    )
