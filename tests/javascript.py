"""Node and the npm packages of the browser client, for tests that run JavaScript or check TypeScript."""

import fcntl
import subprocess
from pathlib import Path

from playwright._impl._driver import compute_driver_executable

CLIENTS = Path(__file__).parents[1] / "clients"
PACKAGE = CLIENTS / "js"
_INSTALL = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
_INSTALL_S = 120
_REACT = CLIENTS / "react"
_DECLARATIONS = ("--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--outDir", str(_REACT / "types"))
_RUN_S = 120


def install_packages() -> None:
    """Install the browser client's development packages unless they are there."""
    install_from_lock(PACKAGE)


def build_types() -> None:
    """Write the browser client's type declarations, if one of its files is newer than they are."""
    install_packages()
    with (PACKAGE / "tsconfig.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        declarations = PACKAGE / "types" / "styles.css.d.ts"  # the last one that is written
        newest = max(path.stat().st_mtime for path in (PACKAGE / "src").rglob("*"))
        if not declarations.is_file() or declarations.stat().st_mtime < newest:
            run_node(str(PACKAGE / "scripts" / "types.js"))


def pack_packages(folder: Path) -> dict[str, Path]:
    """Pack the browser client and the hooks as they are published. Returns the archives, by the name of the package."""
    install_from_lock(_REACT)
    build_types()
    run_node(str(_REACT / "node_modules" / "typescript" / "bin" / "tsc"), "-p", str(_REACT), *_DECLARATIONS)
    for package in (PACKAGE, _REACT):
        command = ["npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", str(folder)]
        result = subprocess.run(command, cwd=package, capture_output=True, text=True, timeout=_RUN_S)
        assert result.returncode == 0, result.stdout + result.stderr
    return {name: next(folder.glob(f"beaconfire-{name}-*.tgz")) for name in ("client", "react")}


def install_from_lock(folder: Path) -> None:
    """Install the packages of a folder's lock file unless they are there. One test process does it at a time."""
    with (folder / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = (folder / "package-lock.json").read_text()
        installed = folder / "node_modules" / ".installed-lock.json"
        if not installed.is_file() or installed.read_text() != wanted:
            result = subprocess.run(_INSTALL, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_S)
            assert result.returncode == 0, result.stdout + result.stderr
            installed.write_text(wanted)


def node() -> str:
    """The Node that Playwright brings."""
    executable, _ = compute_driver_executable()
    return str(executable)


def run_node(*arguments: str) -> str:
    """Run Node, and return what it printed. Fails the test if Node fails."""
    result = subprocess.run([node(), *arguments], capture_output=True, text=True, timeout=_RUN_S)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def check_types(source: Path) -> None:
    """Check a TypeScript file strictly. Fails the test with what the compiler says."""
    install_packages()
    compiler = PACKAGE / "node_modules" / "typescript" / "bin" / "tsc"
    run_node(str(compiler), "--noEmit", "--strict", "--target", "ES2022", str(source))
