"""How fast the page of `geospot watch` is with 100,000 answers, and how soon a step is on it.

    python benchmarks/watch_page.py [answers=100000]

Makes a run folder of made-up answers, serves it and opens it in headless Chromium (playwright, Debian's chromium).
Prints a table, and one JSON line last.
"""

import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from geospot.engine.serve.listening import listener
from geospot.report.live.site import make_site
from geospot.report.live.watching import Watch
from geospot.runs.folder import RunFolder

PICTURES, ANSWERS = 32, 16  # of a step
DELAYS = 10
SLIDE = """async (n) => {
  const slider = document.querySelector('.slider');
  const { set } = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value');
  const begin = performance.now();
  for (let i = 0; i < n; i++) {
    set.call(slider, String(i));
    slider.dispatchEvent(new Event('input', {bubbles: true}));
    await new Promise(requestAnimationFrame);
  }
  return (performance.now() - begin) / n;
}"""  # ms per step, painted


def rows(rng: np.random.Generator, share: float) -> list[dict]:
    """The answers of a step, nearer with the share of the run that is done."""
    truth = np.stack([rng.uniform(-50, 65, PICTURES), rng.uniform(-170, 170, PICTURES)], axis=1).repeat(ANSWERS, axis=0)
    off = rng.normal(0, 25 * (1 - share) + 0.5, truth.shape)
    guess = np.clip(truth + off, [-89, -179], [89, 179])
    return [
        {"split": "train", "sample_key": f"k{i // ANSWERS}", "group_index": i // ANSWERS, "member_index": i % ANSWERS,
         "text": "City: Lyon\nCountry: France\nLatitude: 45.76\nLongitude: 4.84", "true_lat": truth[i, 0],
         "true_lon": truth[i, 1], "lat": guess[i, 0], "lon": guess[i, 1], "distance_km": 111 * np.hypot(*off[i]),
         "reward": 0.5, "parts": {"coordinate": 0.5}, "advantage": 0.1, "n_tokens": 13}
        for i in range(PICTURES * ANSWERS)
    ]  # fmt: skip


def log_step(run: RunFolder, step: int, n: int, rng: np.random.Generator) -> None:
    """One step, as a training run logs it."""
    run.add_rollouts(step, rows(rng, step / n))
    run.log(step, {"reward": step / n, "tau_km": 2000 * 0.97**step, "time/step": 2.0, "entropy": 1.0})


def serve(root: Path) -> str:
    """The address of the page, served in a thread until the process ends."""
    watch = Watch(root)
    server = listener(make_site(watch.routes(), hosts=("127.0.0.1",), lifespan=watch.lifespan), "127.0.0.1", 0)
    threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"


def delays(page: Page, run: RunFolder, first: int, rng: np.random.Generator) -> list[float]:
    """Seconds from a step's being logged to its being on the page."""
    found = []
    for step in range(first, first + DELAYS):
        log_step(run, step, first + DELAYS, rng)
        logged = time.perf_counter()
        while page.locator("output.at").inner_text() != f"step {step}":  # wait_for_function would need eval
            time.sleep(0.02)
        found.append(time.perf_counter() - logged)
    return found


def main(answers: int) -> None:
    """Measure."""
    rng, folder = np.random.default_rng(0), Path(tempfile.mkdtemp())
    steps = -(-answers // (PICTURES * ANSWERS))
    with (
        RunFolder.create(folder / "run", {"command": "train", "max_steps": steps + DELAYS}) as run,
        sync_playwright() as playwright,
    ):
        for step in range(steps):
            log_step(run, step, steps, rng)
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        address, began = serve(folder), time.perf_counter()
        page.goto(address)
        page.locator(".says", has_text="answers to").wait_for()
        opened = time.perf_counter() - began
        page.wait_for_timeout(5000)  # the answers of the earlier steps are read meanwhile
        slide = page.evaluate(SLIDE, steps)
        newest = page.get_by_role("button", name="newest step")
        if newest.count():
            newest.click()
        late = delays(page, run, steps, rng)
        browser.close()
    shutil.rmtree(folder)
    result = {
        "answers": steps * PICTURES * ANSWERS, "opened_s": round(opened, 2), "slider_fps": round(1000 / slide, 1),
        "delay_s_median": round(statistics.median(late), 2), "delay_s_most": round(max(late), 2),
        "load": os.getloadavg()[0],
    }  # fmt: skip
    for name, value in result.items():
        print(f"{name:<16} {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main(int(dict(word.split("=") for word in sys.argv[1:]).get("answers", "100000")))
