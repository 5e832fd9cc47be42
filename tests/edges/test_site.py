"""The documents as a site: every link leads somewhere, every document is reached, nothing is fetched from elsewhere."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FETCHED = {
    ("script", "src"),
    ("img", "src"),
    ("source", "src"),
    ("iframe", "src"),
    ("link", "href"),
    ("object", "data"),
}
AUDIENCES = ["Partner's developer", "Integration lead", "Operator", "Auditor"]


def build(target: Path, *, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    environment = {
        **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        # Whoever asks for anything on the network is answered by nobody.
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
        "NO_MKDOCS_2_WARNING": "1",
    }
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    ran = build(target)
    assert ran.returncode == 0, ran.stderr
    return target


class Tags(HTMLParser):
    """Gathers what a page links to, fetches, and can be linked to by."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if (tag, name) in FETCHED:
                self.fetched.append(value or "")
            elif (tag, name) == ("a", "href"):
                self.links.append(value or "")
            elif name == "id":
                self.anchors.add(value or "")


def test_every_link_of_every_page_leads_to_a_page_and_an_anchor_that_are_there(site: Path) -> None:
    pages = {path: Tags(path) for path in site.rglob("*.html")}
    assert len(pages) > 30
    lost = []
    for path, tags in pages.items():
        for link in tags.links:
            if path.name == "404.html" or re.match(r"[a-z]+:", link):
                continue
            name, anchor = urldefrag(unquote(link))
            target = (path.parent / name).resolve() if name else path
            known = target in pages and (not anchor or anchor in pages[target].anchors)
            lost += [] if known or (target.is_file() and not anchor) else [f"{path.name}: {link}"]
    assert lost == []


def test_a_reader_s_browser_is_asked_to_fetch_nothing_from_elsewhere(site: Path) -> None:
    fetched = [(path.name, each) for path in site.rglob("*.html") for each in Tags(path).fetched]
    assert fetched
    assert [each for each in fetched if re.match(r"(?:[a-z]+:)?//", each[1])] == []
    imported = [
        each
        for path in site.rglob("*.css")
        for each in re.findall(r"(?:@import |url\()\s*['\"]?(?:https?:)?//[^)'\"]+", path.read_text(encoding="utf-8"))
    ]
    assert imported == []


def test_no_page_holds_a_script_that_counts_readers(site: Path) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.html"))
    assert re.findall(r"googletagmanager|google-analytics|fonts\.g|unpkg\.com|jsdelivr", text) == []


def test_a_dead_link_or_anchor_ends_the_build(tmp_path: Path) -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    settings = re.sub(r"^nav:\n.*", "nav:\n  - index.md\n", settings, flags=re.MULTILINE | re.DOTALL)
    settings = re.sub(r"^hooks:\n  - .*\n", "", settings, flags=re.MULTILINE)
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Page\n\n[a](gone.md)\n[b](#lost)\n", encoding="utf-8")
    ran = build(tmp_path / "site", folder=tmp_path)
    assert ran.returncode != 0
    told = ran.stderr + ran.stdout
    assert ("'gone.md'" in told, "'#lost'" in told) == (True, True)


def test_each_reader_has_a_way_in_and_every_document_is_on_it(site: Path) -> None:
    # The file names functions of Python in no place, so that a plain reading is enough.
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    names = [name for part in navigation for name in part]
    assert [name for name in AUDIENCES if name not in names] == []
    for page in ("overview", "changelog", "deploy", "decisions/0040-example-deployments"):
        assert (site / f"{page}.html").is_file()
    assert list(site.rglob("*.py")) == []


def test_the_search_knows_what_the_documents_say(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert "kill switch" in index
