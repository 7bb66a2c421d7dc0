"""The built pages: pictures with words, links that lead somewhere, nothing broken."""

import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest
from bs4 import BeautifulSoup

from insitu.book import contents
from insitu.book.contents import ROOT

PAGES = ["book/intro.html", "notebooks/02-electron-counting.html", "404.html"]


@pytest.fixture
def pages(html):
    files = [p for p in html.rglob("*.html") if "_static" not in p.parts]
    return {
        p.relative_to(html).as_posix(): BeautifulSoup(p.read_text(), "html.parser") for p in files
    }


def test_pages_are_there(pages):
    assert set(PAGES) <= set(pages)


def test_every_image_has_words(pages):
    for name, page in pages.items():
        for image in page.find_all("img"):
            alt = image.get("alt", "")
            assert len(alt.split()) >= 4 or "logo" in image.get("class", []), f"{name}: {alt!r}"


def test_internal_links_lead_somewhere(pages, html):
    for name, page in pages.items():
        if name == "404.html":  # made for any address; its links start at the site's root
            continue
        here = (html / name).parent
        for link in page.find_all("a", href=True):
            target, fragment = urldefrag(link["href"])
            if urlparse(target).scheme or target.startswith("//"):
                continue
            path = (here / unquote(target)).resolve() if target else html / name
            assert path.exists(), f"{name}: {link['href']}"
            if fragment and path.suffix == ".html":
                other = pages[path.relative_to(html.resolve()).as_posix()]
                ids = [unquote(fragment), fragment]
                assert other.find(id=ids) or other.find(attrs={"name": ids}), (
                    f"{name}: {link['href']}"
                )


def test_nothing_is_broken(pages):
    for name, page in pages.items():
        article = page.find("article") or page
        for code in article.select("code"):
            code.clear()
        text = article.get_text()
        for wrong in (
            "Traceback (most recent",
            "Error displaying widget",
            "Loading widget",
            "{glue:",
            "<!--",
            "{term}",
            "{cite}",
            "{doc}",
        ):
            assert wrong not in text, f"{name}: {wrong}"
        assert not article.select(".problematic, .system-message")


def test_formulas_are_mathml(pages):
    page = pages["notebooks/02-electron-counting.html"]
    assert len(page.find_all("math")) > 15
    for name, other in pages.items():
        for script in other.find_all("script", src=True):
            assert not urlparse(script["src"]).netloc, f"{name} needs {script['src']}"


def test_chapter_shows_cost_card_and_stamp(pages):
    page = pages["notebooks/02-electron-counting.html"]
    assert "GB" in page.find(class_="insitu-cost").get_text()
    card = page.find(class_="insitu-card")
    assert "papermill notebooks/02-electron-counting.ipynb out.ipynb -p dose" in card.get_text()
    assert "hash of code, data and outputs" in page.find(class_="insitu-stamp").get_text()
    assert page.select("a.reference[href*='glossary.html#term-']")
    assert page.select("a[href*='bibliography.html']")
    assert len(page.find_all(class_="insitu-scrubber")) == 2
    assert len(page.select(".insitu-figure img.dark-light")) >= 7
    numbers = [said.b.get_text() for said in page.select("figcaption")]
    assert numbers == [f"Figure 2.{n}." for n in range(1, len(numbers) + 1)]


def test_every_chapter_is_listed(pages):
    names = [c.name for c in contents.chapters()]
    for name, listed in (("intro", ".sd-card"), ("costs", "table")):
        article = pages[f"book/{name}.html"].find("article")
        links = [a["href"] for a in article.select(f"{listed} a[href*='notebooks/']")]
        assert [Path(link).stem for link in links] == names
    cards = pages["book/intro.html"].select(".sd-card img")
    assert len(cards) == len(names)
    assert all(image["alt"] for image in cards)


def test_the_library_is_listed(pages):
    words = pages["book/library.html"].find("article").get_text()
    for module in ("insitu.counting", "insitu.book.contents", "insitu.own"):
        assert module in words


def test_launch_buttons_come_with_an_address(pages, tmp_path):
    """None without; uncommenting the address in _config.yml makes them."""
    assert "mybinder.org" not in str(pages["notebooks/02-electron-counting.html"])
    shutil.copytree(ROOT / "book", tmp_path / "book")
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "02-electron-counting.ipynb", tmp_path / "notebooks")
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/costs\nchapters:\n- file: notebooks/02-electron-counting\n"
    )
    settings = (ROOT / "_config.yml").read_text().replace("OWNER/NAME", "somebody/some-book")
    head, _, rest = settings.partition("# repository:")
    block, _, rest = f"# repository:{rest}".partition("\n\n")
    block = "\n".join(line.removeprefix("# ") for line in block.splitlines())
    (tmp_path / "_config.yml").write_text(f"{head}{block}\n\n{rest}")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    page = (tmp_path / "_build/html/notebooks/02-electron-counting.html").read_text()
    assert "https://mybinder.org/v2/gh/somebody/some-book/main?urlpath=lab/tree" in page
