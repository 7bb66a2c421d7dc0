"""The book in a real browser: every page, wide and narrow, light and dark."""

import pytest

VIEWS = [(w, theme) for w in (1280, 390) for theme in ("light", "dark")]


@pytest.fixture(scope="module")
def names(html):
    pages = [*html.glob("book/*.html"), *html.glob("notebooks/*.html")]
    return sorted(p.relative_to(html).as_posix() for p in pages)


@pytest.mark.parametrize(("width", "theme"), VIEWS)
def test_every_page_opens_without_an_error(browser, address, names, width, theme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page = context.new_page()
    wrong = []
    page.on("console", lambda m: m.type == "error" and wrong.append(m.text))
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.on(
        "request",
        lambda r: r.url.startswith((address, "data:")) or wrong.append(f"asks for {r.url}"),
    )
    for name in names:
        page.goto(address + name)
        assert page.locator("article h1").first.is_visible(), name
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width + 1, f"{name} is {wide} px wide on a screen of {width}"
        for image in page.locator("article .cell_output img").all():
            assert image.evaluate("i => getComputedStyle(i).filter") == "none", name
        assert not wrong, (name, wrong)
    context.close()


LETTERS = """() => {
  const found = [];
  for (const figure of document.querySelectorAll(".insitu-figure")) {
    const number = figure.querySelector("figcaption b").innerText;
    for (const image of figure.querySelectorAll(".insitu-view img")) {
      const both = image.closest("picture"), narrow = both && both.querySelector("source");
      const drawn = narrow && image.currentSrc === narrow.srcset
        ? both.dataset.narrow : image.dataset.letters;
      if (drawn) { found.push([number, image.clientWidth * drawn]); }
    }
    const walk = document.createTreeWalker(figure, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const box = walk.currentNode.parentElement;
      if (walk.currentNode.data.trim() && box.checkVisibility() && box.tagName !== "SUP") {
        found.push([number, parseFloat(getComputedStyle(box).fontSize)]);
      }
    }
  }
  return found;
}"""
PANELS = """() => [...document.querySelectorAll(".insitu-view")].map(
  (view) => [view.closest("figure").querySelector("figcaption b").innerText, view.clientWidth])"""


def test_figures_can_be_read_on_a_phone(browser, address, names):
    """Letters of 10 pixels or more, panels of 150 or more, two a row where there are several."""
    page = browser.new_page(viewport={"width": 390, "height": 844}, device_scale_factor=3)
    figures = 0
    for name in names:
        page.goto(address + name)
        page.wait_for_function("[...document.images].every(i => i.complete)")
        letters, panels = page.evaluate(LETTERS), page.evaluate(PANELS)
        figures += len({number for number, _ in letters})
        assert not [small for small in letters if small[1] < 9.9], name
        assert not [small for small in panels if small[1] < 150], name
    assert figures > 60
    page.goto(address + "notebooks/02-electron-counting.html")
    first, second = (page.locator(".insitu-view").nth(k).bounding_box() for k in (0, 1))
    assert abs(first["y"] - second["y"]) < 20
    assert second["x"] > first["x"] + first["width"]
    page.close()


def test_counts_have_whole_pixels(browser, address):
    """Each count is as many pixels of the screen wide, where that costs little of the width."""
    for width, density in ((1280, 1), (390, 3)):
        page = browser.new_page(
            viewport={"width": width, "height": 900}, device_scale_factor=density
        )
        page.goto(address + "notebooks/02-electron-counting.html")
        whole = 0
        for image in page.locator(".insitu-view img[data-pixels]").all():
            assert image.evaluate("i => getComputedStyle(i).imageRendering") == "pixelated"
            room = image.evaluate("i => i.closest('.insitu-tile').clientWidth") * density
            pixels = int(image.get_attribute("data-pixels"))
            times = image.evaluate("i => i.getBoundingClientRect().width") * density / pixels
            if room // pixels * pixels > 0.91 * room:
                assert times == pytest.approx(room // pixels, abs=0.02)
                whole += 1
        assert whole > 0 or density == 1
        page.close()


def test_a_picture_is_enlarged_by_touch_and_by_key(browser, address):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(address + "notebooks/02-electron-counting.html")
    picture, large = page.locator(".insitu-view img").first, page.locator("dialog.insitu-large")
    picture.click()
    assert large.locator("img").bounding_box()["width"] > picture.bounding_box()["width"] * 1.5
    assert large.locator("img").get_attribute("alt") == picture.get_attribute("alt")
    large.click(position={"x": 5, "y": 5})
    large.wait_for(state="detached")
    picture.focus()
    page.keyboard.press("Enter")
    assert large.is_visible()
    page.keyboard.press("Escape")
    large.wait_for(state="detached")
    assert picture.evaluate("i => i === document.activeElement")
    page.close()


def test_bars_over_code_say_what_it_does(browser, address, names):
    page = browser.new_page()
    for name in names:
        page.goto(address + name)
        for bar in page.locator("details.hide .collapsed").all():
            assert bar.inner_text().startswith("Show the code: "), name
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    "name", ["02-electron-counting", "03-in-situ-movie", "05-unsupervised-video-denoising"]
)
def test_scrubbers_turn_by_keyboard(browser, address, width, name):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(f"{address}notebooks/{name}.html")
    for scrubber in page.locator(".insitu-scrubber").all():
        view, slider = scrubber.locator(".view").first, scrubber.locator("input")
        slider.scroll_into_view_if_needed()
        box = view.bounding_box()
        assert 160 < box["width"] <= width
        before, label = view.screenshot(), scrubber.locator("output").inner_text()
        place = view.get_attribute("style")
        slider.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert view.screenshot() != before
        assert scrubber.locator("output").inner_text() != label
        assert slider.get_attribute("aria-valuetext") == scrubber.locator("output").inner_text()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        assert view.get_attribute("style") == place
    page.close()


def test_scrubbers_play(browser, address):
    page = browser.new_page()
    page.goto(f"{address}notebooks/03-in-situ-movie.html")
    scrubber = page.locator(".insitu-scrubber").first
    button, label = scrubber.locator("button"), scrubber.locator("output")
    before = label.inner_text()
    button.click()
    page.wait_for_timeout(1200)
    assert button.get_attribute("aria-label") == "pause"
    assert label.inner_text() != before
    button.click()
    still = label.inner_text()
    page.wait_for_timeout(700)
    assert label.inner_text() == still
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_sliders_answer_by_keyboard_and_without_scripts_there_is_a_table(browser, address, width):
    for scripts in (True, False):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, java_script_enabled=scripts
        )
        page = context.new_page()
        page.goto(f"{address}notebooks/12-large-movies.html")
        figure = page.locator(".insitu-sliders")
        assert figure.locator("table").is_visible() != scripts
        assert figure.locator("input").first.is_visible() == scripts
        if scripts:
            for slider in figure.locator("input").all():
                answers = figure.locator("dd").all_inner_texts()
                slider.focus()
                page.keyboard.press("ArrowRight")
                said = slider.get_attribute("aria-valuetext")
                assert said == slider.locator("xpath=../output").inner_text()
                assert figure.locator("dd").all_inner_texts() != answers
        context.close()


def test_scrubber_without_scripts_and_in_print_shows_every_frame(browser, address):
    for scripts in (False, True):
        context = browser.new_context(java_script_enabled=scripts)
        page = context.new_page()
        if scripts:
            page.emulate_media(media="print")
        page.goto(address + "notebooks/02-electron-counting.html")
        scrubber = page.locator(".insitu-scrubber").last
        assert scrubber.locator("img").is_visible()
        assert not scrubber.locator(".view").first.is_visible()
        assert not scrubber.locator("input").is_visible()
        context.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_particle_turns_by_keyboard_and_mouse(browser, address, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(address + "notebooks/01-hrtem-simulation.html")
    canvas = page.locator(".insitu-atoms canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert 200 < box["width"] <= width

    def picture():
        page.wait_for_timeout(100)
        return canvas.evaluate("c => c.toDataURL()")

    pictures = [picture()]
    canvas.focus()
    for key in ("ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
        pictures.append(picture())
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 120, steps=3)
    page.mouse.up()
    pictures.append(picture())
    assert len(set(pictures)) == 4
    page.close()


def test_particle_without_scripts_is_a_picture(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address + "notebooks/01-hrtem-simulation.html")
    view = page.locator(".insitu-atoms")
    assert view.locator("img").is_visible()
    assert not view.locator("canvas").is_visible()
    context.close()


def test_names_of_results_can_be_read_in_the_dark(browser, address):
    """Contrast of at least 4.5 between the letters and the ground of an output."""
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(address + "notebooks/03-in-situ-movie.html")
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    contrast = page.evaluate(
        """() => {
          const light = (text) => {
            const [r, g, b] = text.match(/[0-9.]+/g).slice(0, 3).map((v) => v / 255)
              .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          document.querySelector("details.insitu-results").open = true;
          const code = document.querySelector(".insitu-results code");
          let ground = code;
          while (/rgba\\(.*, 0\\)/.test(getComputedStyle(ground).backgroundColor)) {
            ground = ground.parentElement;
          }
          const pair = [light(getComputedStyle(code).color),
                        light(getComputedStyle(ground).backgroundColor)].sort();
          return (pair[1] + 0.05) / (pair[0] + 0.05);
        }"""
    )
    assert contrast > 4.5
    context.close()
