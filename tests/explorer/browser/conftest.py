"""Pages opened in Debian's chromium, offline. Without it or without playwright, these tests are skipped."""

import contextlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import gettempdir

import pytest

from atmviz.explorer.exploring import make_page


@pytest.fixture(scope="session")
def chromium():
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs chromium: make test-browser installs it")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: make test-browser installs it")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def look(recording, tmp_path_factory):
    """The path of a page of three photographs."""
    return make_page([recording]).save(tmp_path_factory.mktemp("pages") / "look.html")


@pytest.fixture(scope="session")
def compared(recording, other, tmp_path_factory):
    """The path of a page that compares two networks."""
    return make_page([recording, other]).save(tmp_path_factory.mktemp("pages") / "compared.html")


@pytest.fixture
def visit(chromium):
    """`visit(path, hash)` opens a page that is drawn; at the end nothing was asked for and nothing went wrong."""
    problems = []
    with contextlib.ExitStack() as stack:

        def visit(path, link="", **settings):
            settings = {"offline": True, "viewport": {"width": 1440, "height": 900}, **settings}
            context = stack.enter_context(contextlib.closing(chromium.new_context(**settings)))
            page = context.new_page()
            page.on("console", lambda message: problems.append(message.text))
            page.on("pageerror", lambda error: problems.append(str(error)))
            asked = ("data:", "blob:", "about:srcdoc", Path(path).as_uri())
            page.on("request", lambda request: request.url.startswith(asked) or problems.append(request.url))
            page.goto(Path(path).as_uri() + link)
            page.wait_for_selector("body[data-ready]", timeout=3000)
            return page

        yield visit
    assert problems == []


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core, by npm; kept for the next run."""
    kept = Path(gettempdir()) / f"atmviz-axe-{os.getuid()}.js"
    if not kept.is_file():
        if shutil.which("npm") is None:
            pytest.skip("needs npm, which gives axe-core")
        folder = kept.with_suffix(".npm")
        folder.mkdir(exist_ok=True)
        packed = subprocess.run(["npm", "pack", "--json", "axe-core@4"], cwd=folder, capture_output=True, check=False)
        if packed.returncode:
            pytest.skip("npm cannot get axe-core")
        with tarfile.open(folder / json.loads(packed.stdout)[0]["filename"]) as archive:
            kept.write_bytes(archive.extractfile("package/axe.min.js").read())
        shutil.rmtree(folder)
    return kept.read_text(encoding="utf-8")
