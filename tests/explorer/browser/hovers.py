"""Time 60 moves of the pointer over a page: `python tests/explorer/browser/hovers.py look.html`. No test."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

MOVE = """async k => {
  const stage = document.getElementById("stage"), box = stage.getBoundingClientRect(), start = performance.now();
  const at = {clientX: box.x + box.width * (0.2 + k / 100), clientY: box.y + box.height * (0.3 + k / 150)};
  stage.dispatchEvent(new PointerEvent("pointermove", at));
  await new Promise(requestAnimationFrame);
  const drawn = performance.now() - start;
  await new Promise(requestAnimationFrame);
  return drawn;
}"""

with sync_playwright() as driver:
    browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
    page = browser.new_context(offline=True, viewport={"width": 1440, "height": 900}).new_page()
    page.goto(Path(sys.argv[1]).absolute().as_uri())
    page.wait_for_selector("body[data-ready]")
    times = sorted(page.evaluate(MOVE, k) for k in range(60))
    print(f"median {times[30]:.1f} ms, 95th percentile {times[56]:.1f} ms, largest {times[59]:.1f} ms")
    browser.close()
