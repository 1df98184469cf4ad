"""Check the prose of the repository against docs/reference/style.md and print what to change.

`make lint` runs it over the pages, and over the docstrings, comments and messages of the Python
files. proselint does the matching: its checks of general English, and one check that is made of the
word list in docs/reference/style.md.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from proselint.checks import __register__ as general_checks
from proselint.config import DEFAULT
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check, types
from proselint.tools import LintFile

ROOT = Path(__file__).resolve().parent.parent
STYLE = ROOT / "docs" / "reference" / "style.md"
LISTS = {STYLE, ROOT / "monstera_assets_tests" / "unit" / "test_prose_lint.py"}
"""Files that contain the words to avoid."""
PAGES = ("*.md", "docs/**/*.md", "seeds/*.md", "monstera_assets/**/*.j2")
MODULES = (
    "monstera_assets/**/*.py",
    "monstera_assets_tests/**/*.py",
    "benchmarks/*.py",
    "docs/**/*.py",
)

_WORD_LIST = "style"
_ENABLED = DEFAULT["checks"] | {
    _WORD_LIST: True,
    "annotations": False,
    "dates_times": False,
    "cliches": False,  # "at the end of the day" is meant as it is written
    "hedging": False,
    "industrial_language": False,
    "lexical_illusions": False,  # a heading and the first word below it
    "misc.but": False,
    "misc.capitalization": False,
    "misc.preferred_forms": False,  # slow, with few findings
    "uncomparables": False,  # slow, with few findings
    "terms": False,
    "typography": False,  # plain quotes and hyphens
}
_MOST_SPECIFIC_FIRST = dict(sorted(_ENABLED.items(), key=lambda item: -item[0].count(".")))
_TWO_WORDS = re.compile(r"[A-Za-z]+ [a-z]+")
_SQL = re.compile(r"\b(SELECT|FROM|WHERE|CREATE|INSERT|DELETE|ALTER|COPY|ATTACH|JOIN)\b")
_NOT_PROSE = re.compile(
    r"^ *(`{3,}|~{3,}).*?^ *\1$"  # fenced code
    r"|\{[^{}]*\}"  # placeholders
    r"|`[^`\n]+`"  # inline code
    r"|<[^>\n]+>"  # HTML
    r"|\]\([^)\n]*\)"  # targets of links
    r"|https?://\S+",
    re.MULTILINE | re.DOTALL,
)


def main() -> int:
    """Print each finding as `path:line: message`; return 1 if there is any."""
    CheckRegistry().register_many((*general_checks, word_list(STYLE.read_text(encoding="utf-8"))))
    findings = [
        f"{path.relative_to(ROOT)}:{line}: {message}"
        for path, text in _texts()
        if text
        for line, message in lint(text)
    ]
    print("\n".join(findings) or "prose: no findings")
    return 1 if findings else 0


def word_list(style: str) -> Check:
    """Return the check of the words that docs/reference/style.md lists under "Words"."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", style.partition("## Words")[2], re.MULTILINE)
    phrases = {
        r"\s+".join(map(re.escape, phrase.split())): instead
        for words, instead in rows[1:]
        for phrase in words.split(",")
    }
    return Check(
        check_type=types.PreferredForms(phrases),
        path=_WORD_LIST,
        message="'{1}': use '{0}' (docs/reference/style.md)",
    )


def lint(text: str) -> Iterator[tuple[int, str]]:
    """Return the line and the message of each finding in a text."""
    prose = _NOT_PROSE.sub(lambda match: _blank(match[0]), text)
    config = {"max_errors": 1000, "checks": _MOST_SPECIFIC_FIRST}
    for result in LintFile("prose", prose).lint(config):
        yield result.pos[0], " ".join(result.check_result.message.split())


def prose_of_module(code: str) -> str:
    """Return a module in which all but comments and strings of words is blank, line by line."""
    lines = code.splitlines(keepends=True)
    prose = [list(_blank(line)) for line in lines]
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type not in (tokenize.COMMENT, tokenize.STRING):
            continue
        if not _TWO_WORDS.search(token.string) or _SQL.search(token.string):
            continue
        (first, start), (last, end) = token.start, token.end
        for number in range(first, last + 1):
            line = lines[number - 1]
            kept = slice(start if number == first else 0, end if number == last else len(line))
            prose[number - 1][kept] = line[kept]
    # proselint ignores what is in quotes.
    return "".join(map("".join, prose)).replace('"', "|")


def _texts() -> Iterator[tuple[Path, str]]:
    for pattern in PAGES:
        for path in sorted(set(ROOT.glob(pattern)) - LISTS):
            yield path, path.read_text(encoding="utf-8")
    for pattern in MODULES:
        for path in sorted(set(ROOT.glob(pattern)) - LISTS):
            yield path, prose_of_module(path.read_text(encoding="utf-8"))


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", "|", text)


if __name__ == "__main__":
    sys.exit(main())
