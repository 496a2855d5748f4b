"""A page in a real browser: headless Chromium opens a copy of it, runs a script in it and hands back its result."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

AROUND = """<!doctype html><body style="margin:0">
<iframe src="{src}" width="{width}" height="900" style="border:0"></iframe><script>addEventListener("message", e => {{
  const out = document.createElement("pre"); out.id = "result"; out.textContent = e.data; document.body.append(out);
}})</script>"""


def in_browser(page: Path, script: str, *, width: int = 1280, dark: bool = False) -> object:
    """What the body of an async function returns after `page` has been opened in a window `width` pixels wide.

    The page's own policy stays in force, with this one script allowed. A page that reports a violation of its policy
    or an error of its scripts fails the test.
    """
    program = (
        "const said = []; addEventListener('error', e => said.push(e.message));"
        "addEventListener('securitypolicyviolation', e => said.push(e.violatedDirective + ' ' + e.blockedURI));"
        f"addEventListener('load', async () => {{ const result = await (async () => {{ {script} }})()"
        ".catch(e => said.push(e.message)); parent.postMessage(JSON.stringify({result, said}), '*'); });"
    )
    digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    text = page.read_text(encoding="utf-8")
    if "script-src" in text:
        text = text.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    else:
        text = text.replace("default-src 'none'", f"default-src 'none'; script-src 'sha256-{digest}'", 1)
    copy = page.with_name(f"opened-{page.name}")
    copy.write_text(text.replace("</head>", f"<script>{program}</script></head>", 1), encoding="utf-8")
    # In a frame of the wanted width: a window is never narrower than 500 pixels.
    around = page.with_name(f"around-{page.name}")
    around.write_text(AROUND.format(src=copy.name, width=width), encoding="utf-8")
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *scheme,
         f"--user-data-dir={page.parent / 'profile'}", f"--window-size={max(width, 500)},900",
         "--virtual-time-budget=8000", "--dump-dom", around.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.S)
    assert found, f"the script did not end: {done.stderr[-500:]}"
    answer = json.loads(html.unescape(found[1]))
    assert answer["said"] == [], answer["said"]
    return answer["result"]
