"""The pages in a real browser, where one is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_views import make_record, make_view

from regtool.report.cohort import cohort_report
from regtool.report.pair import pair_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium")

PROBE = """<script>
addEventListener("load", () => {
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const broken = [...document.images].filter((i) => i.complete && !i.naturalWidth).length;
  PAGE
  document.title = JSON.stringify({wide, broken, ...found});
});
</script></body>"""
PAIR = """
  const range = document.querySelector("#axial .slider input");
  range.value = 0;
  range.dispatchEvent(new Event("input"));
  const shown = [...document.querySelectorAll("#axial .slice")].findIndex((s) => !s.hidden);
  document.querySelector('[data-plane="coronal"]').click();
  const same = document.querySelector(".pane img").src
    === document.querySelector("#coronal .slice:not([hidden]) img").src;
  const found = {shown, same, label: document.querySelector("#axial output").textContent};
"""
COHORT = """
  const heads = [...document.querySelectorAll("#pairs thead button")];
  heads[0].click();
  const cells = [...document.querySelectorAll("#pairs tbody th")];
  const found = {names: cells.map((cell) => cell.textContent)};
"""


def browse(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Load a page without a network and give its document as it is after the scripts ran."""
    assert BROWSER is not None
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={path.parent / 'profile'}",
        "--virtual-time-budget=3000", "--dump-dom", *options, path.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def probed(path: Path, code: str, width: int) -> str:
    """Run some code in a copy of the page that allows it; its findings."""
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text("utf-8"))
    copy = path.with_name("probe.html")
    copy.write_text(page.replace("</body>", PROBE.replace("PAGE", code)), "utf-8")
    found = re.search(r"<title>(.*?)</title>", browse(copy, f"--window-size={width},900").stdout)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("width", [1280, 500])
def test_a_pair(width: int, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    pair_report(make_view(), path)
    ran = browse(path)
    assert "CONSOLE" not in ran.stderr  # its own policy lets its own script run
    assert re.search(r'<section id="compare" class="js"(?! hidden)', ran.stdout)
    found = probed(path, PAIR, width)
    assert '"broken":0' in found and '"shown":0' in found and '"same":true' in found
    assert '"wide":0' in found and "slice 1 of 10" in found


def test_a_cohort(tmp_path: Path) -> None:
    grid = make_view().grid
    rows = [make_record(grid, name=name) for name in ("b", "a", "c")]
    path = cohort_report(rows, tmp_path / "c.html")
    assert "CONSOLE" not in browse(path).stderr
    found = probed(path, COHORT, 500)
    assert '"names":["a","b","c"]' in found and '"wide":0' in found
