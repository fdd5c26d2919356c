"""Checks the built site: links and pictures that lead nowhere, what is fetched from elsewhere, and its size."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

MOST_BYTES = 30_000_000
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}


class _Page(HTMLParser):
    """Collects what a page links, what it fetches, and the names that can be linked in it."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.names |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        if (source := values.get(FETCHED.get(tag, ""))) and values.get("rel") not in ("canonical", "author"):
            self.fetched.add(source)


def faults(site: Path) -> list[str]:
    """Return what is wrong with a site, one line each."""
    pages = {}
    for path in set(site.rglob("*.html")) - set(site.glob("_static/**/*")):  # templates of the theme
        pages[path.resolve()] = page = _Page()
        page.feed(path.read_text("utf-8"))
    found = []
    for path, page in pages.items():
        for target in sorted(page.links | page.fetched):
            parts = urlsplit(target)
            where = f"{path.relative_to(site.resolve())}: {target}"
            if parts.scheme in ("http", "https") or parts.netloc:
                found += [f"{where} is fetched from elsewhere"] * (target in page.fetched)
                continue
            if parts.scheme:
                continue  # data:, mailto:, javascript:
            linked = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not linked.exists():
                found.append(f"{where} leads nowhere")
            elif parts.fragment and linked in pages and unquote(parts.fragment) not in pages[linked].names:
                found.append(f"{where} names no place of that page")
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    return found + [f"the site has {size:,} bytes, expected at most {MOST_BYTES:,}"] * (size > MOST_BYTES)


if __name__ == "__main__":
    sys.exit("\n".join(faults(Path(sys.argv[1]))) or None)
