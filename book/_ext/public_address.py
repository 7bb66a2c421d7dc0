"""Launch buttons and links that need the book's public address.

The address is `[tool.insitu] address` in pyproject.toml; while it is empty, they are left out.
"""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

from insitu.book import publish


def _use_address(app: Sphinx, config: Config) -> None:
    url = publish.address(Path(app.srcdir))
    if not url:
        config.notfound_urls_prefix = "/"
        return
    owner, name = url.removeprefix("https://github.com/").split("/")
    config.html_baseurl = f"https://{owner}.github.io/{name}/"
    config.notfound_urls_prefix = f"/{name}/"
    config.html_theme_options = config.html_theme_options | {
        "repository_url": url,
        "repository_branch": "main",
        "path_to_docs": "",
        "use_repository_button": True,
        "use_issues_button": True,
        "launch_buttons": {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
            "notebook_interface": "jupyterlab",
        },
    }


def setup(app: Sphinx) -> dict[str, bool]:
    """Read the address before the theme does."""
    app.connect("config-inited", _use_address, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
