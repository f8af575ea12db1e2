"""Check a built site: every link inside it leads somewhere, and no page loads from another host.

Usage: python docs/site/check.py build/docs
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

LOADS = (("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src"))
IN_STYLE = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^'\")]+)")
NO_PAGES = {"search.html", "genindex.html"}


@cache
def page(file: Path) -> BeautifulSoup:
    """Return a page, parsed once."""
    return BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(file: Path) -> frozenset[str]:
    """Return the places of a page that a link can name."""
    return frozenset(str(tag["id"]) for tag in page(file).find_all(id=True))


def elsewhere(site: Path) -> Iterator[str]:
    """Yield what the site would load from another host."""
    for file in sorted(site.rglob("*.html")):
        for tag, attribute in LOADS:
            for found in page(file).find_all(tag, attrs={attribute: True}):
                if tag == "link" and found.get("rel") == ["canonical"]:
                    continue
                if urlsplit(str(found[attribute])).netloc:
                    yield f"{file.relative_to(site)}: loads {found[attribute]}"
    for file in sorted(site.rglob("*.css")):
        for address in IN_STYLE.findall(file.read_text(encoding="utf-8")):
            yield f"{file.relative_to(site)}: loads {address}"


def broken(site: Path) -> Iterator[str]:
    """Yield the links inside the site that lead nowhere."""
    for file in sorted(site.rglob("*.html")):
        if file.name in NO_PAGES:
            continue
        for link in page(file).find_all("a", href=True):
            target = urlsplit(str(link["href"]))
            if target.scheme or target.netloc:
                continue
            there = (file.parent / unquote(target.path)).resolve() if target.path else file
            if there.is_dir():
                there /= "index.html"
            if not there.is_file():
                yield f"{file.relative_to(site)}: no page {link['href']}"
            elif (
                target.fragment
                and there.suffix == ".html"
                and (unquote(target.fragment) not in anchors(there))
            ):
                yield f"{file.relative_to(site)}: no place {link['href']}"


def main() -> None:
    """Print what is wrong with a site, and exit 1 where something is, or where there is no page."""
    site = Path(sys.argv[1]).resolve()
    pages = len(list(site.rglob("*.html")))
    wrong = [*elsewhere(site), *broken(site)] if pages else [f"{site}: no page; was it built?"]
    print("\n".join(wrong) or f"{pages} pages: all links lead somewhere")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
