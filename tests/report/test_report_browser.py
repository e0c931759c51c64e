"""Report in a browser: no horizontal scrolling and no clipped text at two widths."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.report_pages import page, untrained

BROWSER = next(
    (b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)),
    None,
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --allow-file-access-from-files "
    "--virtual-time-budget=10000 --dump-dom"
)
MEASURE = """<body>%s<pre id="out"></pre><script>
onload = () => { const frames = [...document.querySelectorAll('iframe')];
  out.textContent = JSON.stringify(frames.map(f => {
  const d = f.contentDocument, root = d.documentElement, wide = root.clientWidth;
  const beyond = [...d.body.querySelectorAll('*')].filter(e => {
    const r = e.getBoundingClientRect();
    return r.width > 0 && (r.right > wide + 1 || r.left < -1) });
  const cut = [...d.body.querySelectorAll('*')].filter(e => !e.closest('svg')
    && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline');
  return {wide, scroll: root.scrollWidth, images: [...d.images].every(i => i.naturalWidth > 0),
    beyond: beyond.map(e => e.outerHTML.slice(0, 80)),
    cut: cut.map(e => e.outerHTML.slice(0, 80))} })) }
</script>"""


@pytest.mark.skipif(
    BROWSER is None, reason="needs the system package chromium, which is not installed"
)
@pytest.mark.parametrize("lang", ["en", "ko"])
def test_nothing_scrolls_sideways(lang: str, tmp_path: Path) -> None:
    names = {
        "ae": "a-run-with-a-rather-long-name-that-has-no-place-to-break",
        "vae": "vae",
    }
    runs = [
        untrained("digits", recipe, tmp_path, name) for recipe, name in names.items()
    ]
    page(
        runs if lang == "en" else [*runs, untrained("digits", "hvae", latent=[3, 2])],
        tmp_path,
        lang=lang,
    )
    frames = "".join(
        f'<iframe src="report.html" style="border:0;width:{w}px;height:900px"></iframe>'
        for w in (390, 1280)
    )
    (tmp_path / "measure.html").write_text(MEASURE % frames, encoding="utf-8")
    command = [
        str(BROWSER),
        *FLAGS.split(),
        f"--user-data-dir={tmp_path / 'profile'}",
        f"file://{tmp_path}/measure.html",
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=80).stdout
    measured = re.search(r'<pre id="out">(.*?)</pre>', dom, re.DOTALL)
    assert measured, dom[-500:]
    phone, desk = json.loads(html.unescape(measured.group(1)))
    assert (phone["wide"], desk["wide"]) == (390, 1280)
    for screen in (phone, desk):
        assert screen["scroll"] <= screen["wide"]
        assert screen["beyond"] == [] and screen["cut"] == [] and screen["images"]
