"""The browser client as an application has it: packed, installed, type checked and bundled with the usual tools."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.javascript import PACKAGE, build_types, install_from_lock, node

CONSUMERS = Path(__file__).parent / "consumers"
"""Applications with the configuration that the templates of the tools create, and the tools in a lock file."""
RUN_S = 180


@pytest.fixture(name="packed", scope="module")
def _packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `npm pack` makes of the client."""
    build_types()
    folder = tmp_path_factory.mktemp("packed")
    command = ["npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", str(folder)]
    _run(command, folder=PACKAGE)
    (archive,) = folder.iterdir()
    return archive


@pytest.fixture(name="application")
def _application(request: pytest.FixtureRequest, packed: Path, tmp_path: Path) -> Path:
    """An application of `consumers`, in a folder of its own, which has installed the client and the tools."""
    install_from_lock(CONSUMERS)
    folder = tmp_path / str(request.param)
    shutil.copytree(CONSUMERS / request.param, folder)
    _run(["npm", "install", "--no-save", "--offline", "--no-audit", "--silent", str(packed)], folder=folder)
    for package in (CONSUMERS / "node_modules").iterdir():
        if not (folder / "node_modules" / package.name).exists():
            (folder / "node_modules" / package.name).symlink_to(package)
    return folder


@pytest.mark.timeout(RUN_S)
@pytest.mark.parametrize("application", ["vite"], indirect=True)
def test_application_from_vites_template_type_checks_and_has_styles_and_fallback_in_files_of_their_own(
    application: Path,
) -> None:
    _check(application, "typescript-7")
    _tool(application, "vite/bin/vite.js", "build", "--logLevel", "warn")

    assert ".beaconfire-indicator" in _written(application, "css")
    names = sorted(path.name.split("-")[0] for path in (application / "dist" / "assets").glob("*.js"))
    assert {"detour", "index", "renewal", "requests", "seen", "tabs_leader", "tabs_worker"} <= set(names)


@pytest.mark.timeout(RUN_S)
@pytest.mark.parametrize("application", ["next"], indirect=True)
@pytest.mark.parametrize("compiler", ["typescript", "typescript-7"])
def test_application_with_the_compiler_options_of_nexts_template_type_checks(application: Path, compiler: str) -> None:
    _check(application, compiler)


@pytest.mark.timeout(RUN_S)
@pytest.mark.parametrize("application", ["webpack"], indirect=True)
def test_application_from_webpacks_guide_type_checks_and_keeps_the_styles(application: Path) -> None:
    _run([node(), "build.cjs"], folder=application)

    assert ".beaconfire-indicator" in _written(application, "css")


@pytest.mark.timeout(RUN_S)
@pytest.mark.parametrize("application", ["node"], indirect=True)
@pytest.mark.parametrize("compiler", ["typescript", "typescript-7"])
def test_program_for_node_type_checks_strictly_and_runs(application: Path, compiler: str) -> None:
    _check(application, compiler)

    assert _run([node(), "dist/main.js"], folder=application) == "disconnected 4403\n"


def test_package_has_every_file_that_its_exports_name() -> None:
    build_types()
    exports = json.loads((PACKAGE / "package.json").read_text())["exports"]
    named = [path for one in exports.values() for path in ([one] if isinstance(one, str) else one.values())]

    assert [path for path in named if not (PACKAGE / path).is_file()] == []


def _check(application: Path, compiler: str) -> None:
    _tool(application, f"{compiler}/bin/tsc", "-p", ".")


def _tool(application: Path, path: str, *arguments: str) -> None:
    _run([node(), str(application / "node_modules" / path), *arguments], folder=application)


def _run(command: list[str], *, folder: Path) -> str:
    """Run a program, and return what it printed. Fails the test if the program fails."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=RUN_S)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def _written(application: Path, ending: str) -> str:
    """Return the text of the bundled files with this ending."""
    files = list((application / "dist").rglob(f"*.{ending}"))
    return "".join(path.read_text() for path in files)
