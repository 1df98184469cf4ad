"""Complete the site: the page of the seeds, and what search and diagrams need to work from disk."""

from __future__ import annotations

import posixpath
import re
from importlib.metadata import distribution
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

_SEEDS = "seeds/README.md"
_PAGE = "reference/seeds.md"
_MERMAID = "assets/mermaid.min.js"
_DIAGRAM = re.compile(r'<pre class="mermaid">.*?</pre>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of the seeds, and Mermaid, which the theme would load from a CDN."""
    seeds = Path(config.config_file_path).parent / _SEEDS
    files.append(File.generated(config, _PAGE, content=seeds.read_text(encoding="utf-8")))
    mermaid = str(distribution("mermaidx").locate_file("mermaidx/assets/mermaid.js"))
    files.append(File.generated(config, _MERMAID, abs_src_path=mermaid))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to the page of the seeds at its place in the site."""
    del config, files
    target = posixpath.relpath(_PAGE, posixpath.dirname(page.file.src_uri))
    return re.sub(rf"\]\((?:\.\./)+{_SEEDS}", f"]({target}", markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Let diagrams scroll, and load Mermaid (3.5 MB) only on pages that have any."""
    del config
    output, diagrams = _DIAGRAM.subn(_scrollable, output)
    script = f'<script src="{get_relative_url(_MERMAID, page.url)}"></script>'
    return output.replace("</head>", f"{script}</head>", 1) if diagrams else output


def _scrollable(diagram: re.Match[str]) -> str:
    """Return a diagram at least as wide as its lines of code need for legible text."""
    width = min(22 * diagram[0].count("\n"), 2400)
    return f'<div class="diagram" tabindex="0" style="--width: {width}px">{diagram[0]}</div>'
