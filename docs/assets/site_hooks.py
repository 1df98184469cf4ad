"""What the site adds to the folder of pages: the page of the seeds, which lies beside its files."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_SEEDS = "seeds/README.md"
_PAGE = "seeds.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take the page of the seeds in."""
    page = Path(config.config_file_path).parent / _SEEDS
    files.append(File.generated(config, _PAGE, content=page.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to the page of the seeds to where the site has it."""
    del page, config, files
    return markdown.replace(f"](../{_SEEDS}", f"]({_PAGE}")
