"""A chapter in JupyterLab: opened, run, its slider moved, saved, and opened again."""

import json
import os
import platform
import subprocess
import sys
import time
from contextlib import contextmanager

import nbformat
import papermill
import pytest

from insitu.book import contents, runs

pytestmark = pytest.mark.slow
PATIENCE = 180  # s, for each thing that is waited for, on a machine that has other things to do
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # a cell is there if not in sight
}
OPTIONS = (
    "--no-browser",
    "--allow-root",
    "--ServerApp.port=0",
    "--IdentityProvider.token=open",
    "--LabApp.expose_app_in_browser=True",
    "--LabApp.extension_manager=readonly",
)
READY = """() => {
  const notebook = window.jupyterapp?.shell.currentWidget?.context;
  return notebook?.isReady && notebook.sessionContext.session?.kernel?.status === "idle";
}"""
SAVED = "!window.jupyterapp.shell.currentWidget.context.model.dirty"
STOP = "window.jupyterapp.shell.currentWidget.context.sessionContext.shutdown()"


@contextmanager
def jupyter_lab(folder):
    """The address of a JupyterLab that serves a folder, with settings of its own."""
    kept = folder.parent / "jupyter"
    for name, content in SETTINGS.items():
        path = kept / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    own = {f"JUPYTER_{name}_DIR": str(kept / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {f"JUPYTERLAB_{name.upper()}_DIR": str(kept / name) for name in ("settings", "work")}
    own |= {"JUPYTERLAB_WORKSPACES_DIR": str(kept / "work"), "IPYTHONDIR": str(kept / "ipython")}
    command = [sys.executable, "-m", "jupyterlab", *OPTIONS, f"--ServerApp.root_dir={folder}"]
    with (kept / "log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)
        try:
            yield address_of(kept / "RUNTIME", server)
        finally:
            server.terminate()
            server.wait()


def address_of(folder, server):
    """Where a server answers, which it writes into a file when it does."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        for path in folder.glob("jpserver-*.json"):
            return json.loads(path.read_text())["url"]
        time.sleep(0.1)
    raise AssertionError("JupyterLab did not start")


def opened(browser, address, name):
    """Show a notebook in a new window, and wait until its kernel is there."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(f"{address}lab/tree/{name}?token=open&reset")
    page.wait_for_function(READY)
    return page


def run_all(page, last):
    """By the menu; wait for the file that the last cell writes, or for an error."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    end = time.monotonic() + PATIENCE
    while not last.is_file():
        assert time.monotonic() < end, "the run did not come to its end"
        failed = page.locator('[data-mime-type="application/vnd.jupyter.error"]')
        assert not failed.count(), failed.first.inner_text()
        page.wait_for_timeout(200)
    page.wait_for_function(READY)


def turn(page):
    """Move the first slider by the keyboard; what it says before and after."""
    figure = page.locator(".insitu-scrubber.live").first
    slider, label = figure.locator("input"), figure.locator("output")
    slider.scroll_into_view_if_needed()
    before = label.inner_text()
    slider.focus()
    page.keyboard.press("ArrowRight")
    return before, label.inner_text()


def as_run_by(version, path):
    """Let a notebook say that it was run by a version of Python, as JupyterLab's kernel will."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["language_info"]["version"] = version
    nbformat.write(notebook, path)


def test_a_chapter_in_jupyterlab(browser, tmp_path):
    (source,) = contents.find_chapters(["02"])
    folder = tmp_path / "book"
    folder.mkdir()
    notebook = folder / source.name
    values = runs.chapter_values(source, "smoke") | {"output_dir": str(tmp_path / "out")}
    papermill.execute_notebook(source, notebook, values, prepare_only=True)
    as_run_by(platform.python_version(), notebook)
    with jupyter_lab(folder) as address:
        page = opened(browser, address, notebook.name)
        page.wait_for_timeout(1000)
        assert page.evaluate(SAVED), "to open a page changes it"
        run_all(page, tmp_path / "out" / "run.json")
        before, after = turn(page)
        assert before != after
        page.keyboard.press("Control+S")
        page.wait_for_function(SAVED)
        page.evaluate(STOP)
        page.close()
        page = opened(browser, address, notebook.name)  # with a new kernel, nothing run in it
        before, after = turn(page)
        assert before != after
        assert "Error displaying widget" not in page.content()
        assert page.evaluate(SAVED), "to open it again changes it"
        page.close()
    saved = nbformat.read(notebook, as_version=4)
    outputs = [o for cell in saved.cells if cell.cell_type == "code" for o in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    views = [name for o in outputs for name in o.get("data", {}) if "widget-view" in name]
    assert not views, "a widget that is dead when the notebook is opened again"
