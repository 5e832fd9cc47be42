"""What the site needs besides the documents in this folder: those above it, the decisions, a forge's anchors."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parents[1]
BESIDE: Final[Mapping[str, str]] = {
    "README.md": "overview.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "reporting.md",
    "LICENSE": "licence.md",
}
"""Documents of the repository that are pages of the site as well, and their names there."""
EXAMPLES: Final = "deploy"
"""A folder whose files documents link to; the site has them as they are."""
LINK: Final = re.compile(r"(\]\()([^)\s#]+)")


def slug(heading: str, separator: str) -> str:
    """Make the anchor of a heading as the forge does, so that a link works in both places."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", separator)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put every decision into the navigation."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slug
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    for part in config.nav or ():
        if "Decisions" in part:
            part["Decisions"] = [f"decisions/{page.name}" for page in pages]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents beside this folder, and the examples."""
    for name, page in BESIDE.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        content = f"# Licence\n\n```text\n{text}```\n" if name == "LICENSE" else text
        files.append(File.generated(config, page, content=content))
    for example in sorted((ROOT / EXAMPLES).rglob("*")):
        if example.is_file():
            files.append(File.generated(config, str(example.relative_to(ROOT)), abs_src_path=str(example)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Lead links between this folder and the one above it to where those pages are on the site."""
    beside = page.file.src_uri in BESIDE.values()

    def led(link: re.Match[str]) -> str:
        target = link[2]
        name = target.rpartition("/")[2]
        if beside:
            target = BESIDE.get(target, target.removeprefix("docs/"))
        elif name in BESIDE or f"../{EXAMPLES}/" in target:
            target = target.removeprefix("../").replace(name, BESIDE.get(name, name))
        return link[1] + target

    return LINK.sub(led, markdown)
