"""A film and a report of one's own, in a real browser, without any net."""

import numpy as np
import pytest

from insitu.files import ResultsFolder
from insitu.own.reports import write_report
from insitu.own.writing import write_film

PLAYS = """async () => {
    const v = document.querySelector("video");
    await new Promise((done, failed) => {
        if (v.readyState >= 2) return done();
        v.onloadeddata = done;
        v.onerror = () => failed(v.error.message);
    });
    v.currentTime = 1.05;
    await new Promise(done => { v.onseeked = done; });
    return [v.readyState, v.duration, v.videoWidth, v.videoHeight];
}"""


@pytest.fixture
def report(tmp_path):
    """A film of 20 frames, at 10 a second, in which a bright square walks."""
    movie = np.random.default_rng(0).poisson(1.0, (20, 40, 50))
    walk = np.zeros((20, 40, 50))
    for t in range(20):
        walk[t, 10:20, 2 * t : 2 * t + 10] = 1.0
    results = ResultsFolder(tmp_path)
    film = results.write("film.mp4", lambda p: write_film(p, {"counts": movie, "walk": walk}))
    maps = {"a picture": movie[0]}
    write_report(results, "mine", {"frames": 20.0}, text=["A word."], maps=maps, film=film)
    return tmp_path / "report.html"


def test_a_report_opens_offline_and_its_film_plays(browser, report):
    context = browser.new_context(offline=True)
    page = context.new_page()
    asked = []
    page.on("request", lambda r: asked.append(r.url))
    page.goto(report.as_uri())
    state, duration, width, height = page.evaluate(PLAYS)
    assert state >= 2
    assert duration == pytest.approx(2.0, abs=0.01)
    assert 900 <= width <= 960
    assert height > 300
    assert page.locator("img").evaluate("i => i.complete && i.naturalWidth > 0")
    assert page.locator("h1").inner_text() == "mine"
    assert all(url.startswith(("file:", "data:")) for url in asked)
    shot = page.locator("video").screenshot()
    page.evaluate(
        "() => new Promise(d => { const v = document.querySelector('video');"
        "v.onseeked = d; v.currentTime = 0.05; })"
    )
    assert page.locator("video").screenshot() != shot
    context.close()
