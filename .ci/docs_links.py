"""A hook of MkDocs: links from docs/ to the rest of the repository lead to where its source is.

Where mkdocs.yml has no `repo_url`, their text stays, without a link. Files that don't exist are
found by tests/test_layout.py.
"""

import re
from typing import Any

# Pages of the checkout that are pages of the site, too.
PAGES = {"../README.md": "index.md", "../CHANGELOG.md": "changes.md"}


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    """Return a page's text with such links."""

    def moved(link: re.Match[str]) -> str:
        text, path = link[1], link[2].removeprefix("docs/")
        if path in PAGES:
            return f"[{text}]({PAGES[path]})"
        home = config["repo_url"]
        return f"[{text}]({home}{path.removeprefix('../')})" if home else text

    return re.sub(r"\[([^\]]*)\]\((\.\./[^)]*)\)", moved, markdown)
