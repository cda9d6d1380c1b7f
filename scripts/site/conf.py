"""Build the documentation as a site with Sphinx: `make docs`.

The pages are the Markdown files of the repository, as they are. This adds the navigation: groups of pages, and in each
group the order in which docs/README.md mentions the pages.
"""

import re
import shutil
from pathlib import Path, PurePosixPath

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]

project = "Beaconfire"
author = "The authors of Beaconfire"
extensions = ["myst_parser", "sphinx_copybutton"]
include_patterns = ["*.md", "docs/**", "clients/*/README.md", "examples/README.md", "examples/*/README.md"]
# Sphinx does not walk through these.
exclude_patterns = [".*", "**/node_modules", "bench", "demo", "dist", "scripts", "services", "shared", "tests", "tools"]
root_doc = "README"
highlight_language = "text"
# Examples of JSON with comments, or of JavaScript with JSX, are not in a language that Pygments knows exactly.
suppress_warnings = ["misc.highlighting_failure"]

# Headings get the anchors that they have in a repository's web view.
myst_heading_anchors = 6
myst_enable_extensions = ["tasklist"]
copybutton_selector = "div:not(.highlight-mermaid) > div.highlight > pre"

html_theme = "furo"
html_title = "Beaconfire"
html_favicon = "../../demo/src/beaconfire_demo/page/flame.svg"
html_static_path = ["static", "node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js"]
html_css_files = ["site.css"]
html_js_files = ["diagrams.js"]
html_show_sourcelink = False
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": False, "top_of_page_buttons": []}

GROUPS = {
    "Start": ["docs/start/*.md"],
    "How to": ["docs/howto/*.md"],
    "Understand": ["docs/topics/*.md", "docs/performance.md", "docs/features.md"],
    "Look up": ["PROTOCOL.md", "docs/reference/*.md", "SECURITY.md", "CHANGELOG.md"],
    "Clients and examples": ["clients/*/README.md", "examples/README.md", "examples/*/README.md"],
    "Develop": ["CONTRIBUTING.md", "docs/adr/README.md"],
}
INDEX = "docs/README.md"
DECISIONS = "docs/adr/README"
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)([^)#\s]+)(#[^)\s]*)?\)")


def mentioned() -> list[str]:
    """The files that docs/README.md links, in order."""
    folder = (ROOT / INDEX).parent
    found = [(folder / link).resolve() for _, link, _ in _LINK.findall((ROOT / INDEX).read_text())]
    return [path.relative_to(ROOT).as_posix() for path in found]


def pages(patterns: list[str]) -> list[str]:
    """The pages of a group. Those that docs/README.md mentions come first, in its order."""
    order = {name: index for index, name in reversed(list(enumerate(mentioned())))}
    found = [path.relative_to(ROOT).as_posix() for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    return sorted(found, key=lambda name: order.get(name, len(order)))


def toctree(names: list[str], caption: str = "") -> str:
    """A list of pages that only the navigation shows."""
    options = [":hidden:", ":titlesonly:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["", "```{toctree}", *options, "", *(f"/{name.removesuffix('.md')}" for name in names), "```", ""])


def complete(_app: Sphinx, name: str, source: list[str]) -> None:
    """Add the navigation to the two pages that hold it, and leave out links to folders, which a site cannot show."""
    if name == root_doc:
        source[0] += toctree([INDEX]) + "".join(toctree(pages(found), caption) for caption, found in GROUPS.items())
    elif name == DECISIONS:
        source[0] += toctree(pages(["docs/adr/0*.md"]))
    folder = ROOT / PurePosixPath(name).parent

    def shown(link: re.Match[str]) -> str:
        return link[1] if (folder / link[2]).is_dir() else link[0]

    source[0] = _LINK.sub(shown, source[0])


def add_index(app: Sphinx, failed: Exception | None) -> None:
    """Give the first page the name that a web server looks for."""
    if failed is None:
        shutil.copy(Path(app.outdir) / f"{root_doc}.html", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> None:
    app.connect("source-read", complete)
    app.connect("build-finished", add_index)
