"""The commands of README, seeds and docs run and print what the pages show.

The console blocks of a page are one shell session, in a folder like the repository after `make demo`:

- `make TARGET` is not run; the target must exist. `make demo`, `monstera demo`, and `monstera run`
  without days must print what the run of the seeds printed.
- Servers run in test_daemon.py.
- Blocks after `<!-- not run: REASON -->` are run by the named test, or need a service or data that
  the repository does not contain. Their commands are parsed, as are all others, including those in
  the text.
- In shown output, a line `...` matches any lines; times, durations and ids may differ.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest

from monstera_assets.cli import main
from monstera_assets_tests.end_to_end.test_cli import LAST, LATE_EVENT
from monstera_assets_tests.helpers.command_line import SEEDS, copy_of, environment
from monstera_assets_tests.integration.example_runs import SeedsRun

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BIN = Path(sys.executable).parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (
        *(ROOT / "README.md", SEEDS / "README.md"),
        *(page for page in sorted(DOCS.rglob("*.md")) if page.parent.name != "generated"),
    )
}
NOT_RUN = {
    "README.md": ["test_imported_sources.py"],
    "docs/explanation/churn.md": ["test_long_commands.py"],
    "docs/how-to/deployment.md": ["needs a container engine", "needs systemd"],
    "docs/how-to/importing.md": ["test_imported_sources.py"] * 2,
    "docs/how-to/spark.md": ["installs packages", "needs a Spark cluster"],
    "docs/explanation/openstack.md": ["needs the OpenStack data"],
    "docs/explanation/recommendations.md": ["test_long_commands.py", "needs the OpenStack data"],
    "docs/reference/synthetic.md": ["test_long_commands.py"],
    "docs/tutorials/posthog.md": ["test_imported_sources.py"] * 2,
}
SYSTEM_COMMANDS = ("cd", "docker", "eval", "export", "find", "sudo")
SERVERS = ("dagster-daemon", "dagster-webserver")
FENCE = re.compile(
    r"^(?:<!-- not run: ([^\n]+) -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
MARK = "--- exit code "
FAULTY_EVENTS = (
    "evt_x1,USR_05,user,video_edited,2025-06-13 08:00:00,web_app,,video_studio,true,false,\n"
    "evt_x2,usr_05,user,video_edited,2025-06-13 08:00:00 BST,web_app,,video_studio,true,false,\n"
    "evt_x3,usr_05,user,video_edited,2025-06-13 09:00:00,web_app,,,true,false,\n"
)
"""What `monstera check` finds on the page about own data."""


@dataclass(frozen=True)
class Step:
    """A command of a page, and the output shown below it."""

    command: str
    output: str

    @property
    def words(self) -> list[str]:
        """The command without its comment, leading variables and the folder of the program."""
        words = shlex.split(self.command, comments=True)
        while re.match(r"[A-Z_]+=", words[0]):
            del words[0]
        return [words[0].removeprefix(".venv/bin/"), *words[1:]]

    @property
    def is_of_the_seeds(self) -> bool:
        """Whether the command was already executed by the run of the seeds."""
        return self.words in (["make", "demo"], ["monstera", "demo"]) or (
            self.words[:2] == ["monstera", "run"]
            and not {"--changed", "--from", "--to", "--rebuild", "--source"} & {*self.words}
        )


def steps(page: str, *, marked: bool = False) -> list[Step]:
    """Return the steps of the page's console blocks, with or without those that are not run."""
    return [
        Step(command.replace("\\\n", " "), output)
        for mark, language, body in FENCE.findall(PAGES[page])
        if language == "console" and (marked or not mark)
        for command, output in re.findall(
            r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", body, re.MULTILINE
        )
    ]


def shown(output: str) -> list[str]:
    """Return the lines of an output without the parts that differ between runs."""
    for pattern, name in (
        (r"\d{4}-\d\d-\d\d( was due by) \d{4}-\d\d-\d\d \d\d:\d\d", r"DAY\1 TIME"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME"),
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
        (r"forgotten_[0-9a-f]{16}", "TOMBSTONE"),
        (r"\d+\.\d s\b", "SECONDS"),
        (r"\d+\.\d [kM]B", "SIZE"),
        (r"\d+\.\d GB free", "SIZE free"),
        (r"\d{8}T\d{6}Z", "BACKUP"),
    ):
        output = re.sub(pattern, name, output)
    return [" ".join(line.split()) for line in output.splitlines() if line.strip()]


def assert_shown(expected: str, actual: str) -> None:
    """Assert that an output equals the output on the page, if there is one."""
    if expected:
        pattern = "".join(
            r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n" for line in shown(expected)
        )
        text = "".join(f"{line}\n" for line in shown(actual))
        assert re.fullmatch(pattern, text), f"the page shows\n{expected}\nbut it prints\n{actual}"


def assert_parses(words: list[str]) -> None:
    """Assert that a program or make target exists and that `monstera` accepts the arguments."""
    program, *arguments = words
    if program == "make":
        targets = [word for word in arguments if "=" not in word]
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    elif program == "monstera" and arguments[0] != "--help":
        command = main.commands[arguments[0]]
        if len(arguments) > 1 or not command.get_params(command.context_class(command)):
            command.make_context(arguments[0], arguments[1:])
    else:
        assert program in SYSTEM_COMMANDS or (BIN / program).exists()


@pytest.mark.parametrize("page", PAGES)
def test_commands_parse(page: str) -> None:
    """D is a placeholder for a day in commands within the text."""
    prose = FENCE.sub("", PAGES[page])
    in_text = re.findall(r"`(?:\.venv/bin/)?((?:monstera|make|dagster|dg|apprise) [^`]+)`", prose)
    for command in in_text:
        assert_parses(shlex.split(re.sub(r"\bD\b", str(LAST), command)))
    for step in steps(page, marked=True):
        assert_parses(step.words)


def test_every_command_is_in_a_console_block() -> None:
    blocks = {page: FENCE.findall(text) for page, text in PAGES.items()}
    for language, body in [block[1:] for block in chain.from_iterable(blocks.values())]:
        assert language not in {"bash", "sh", "shell"}
        assert language == "console" or not re.search(r"^\$ ", body, re.MULTILINE)
    marks = {page: [mark for mark, *_ in found if mark] for page, found in blocks.items()}
    assert {page: found for page, found in marks.items() if found} == NOT_RUN


NEW_TABLE = "docs/tutorials/add_a_table.md"
LONG = (
    "docs/explanation/billing.md",
    *("docs/how-to/late_data.md", "docs/how-to/operations.md", "docs/how-to/own_data.md"),
    NEW_TABLE,
)
"""Pages whose commands take minutes, and whose subjects have tests of their own."""


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page in LONG else [])
        for page in PAGES
        if steps(page)
    ],
)
def test_commands_run_and_print_what_the_page_shows(
    page: str, seeds_run: SeedsRun, tmp_path: Path
) -> None:
    folder = copy_of(seeds_run.outcome, tmp_path / "repository")
    for name in (".venv", "examples", "workspace.yaml"):
        (folder / name).symlink_to(ROOT / name)
    source = shutil.copytree(SEEDS, folder / "seeds")
    for name in ("source", "events"):  # /path/to/source and /data/events
        (folder / "data" / name).symlink_to(source)
    added = {"docs/how-to/late_data.md": LATE_EVENT, "docs/how-to/own_data.md": FAULTY_EVENTS}
    if page == NEW_TABLE:  # the commands run a copy of the package that contains the page's table
        shutil.copytree(ROOT / "monstera_assets", folder / "monstera_assets")
        [code] = [body for _, language, body in FENCE.findall(PAGES[page]) if language == "python"]
        module = folder / "monstera_assets" / "silver" / "silver_user_first_events.py"
        module.write_text(code, encoding="utf-8")
    with (source / "seed_events.csv").open("a", encoding="utf-8") as file:
        file.write(added.get(page, ""))

    def placed(text: str) -> str:
        return re.sub(r"(?<![\w.])/(data|path/to)(?=/)", f"{folder}/data", text)

    here: list[Step] = []
    for step in steps(page):
        if step.is_of_the_seeds and page != NEW_TABLE:
            printed = seeds_run.outcome.out.replace(str(SEEDS), "seeds")
            assert_shown(step.output, printed)
        elif step.words[0] in SERVERS:
            assert step.words[0] in (Path(__file__).parent / "test_daemon.py").read_text()
        elif step.words[0] != "make":
            here.append(step)
    script = "exec 2>&1\n" + "".join(f"{step.command}\necho '{MARK}'$?\n" for step in here)
    done = subprocess.run(
        ["bash", "-c", placed(script)],
        cwd=folder,
        env=environment(
            MONSTERA_SOURCE="seeds",
            BROWSER="true",
            PATH=f"{BIN}:/usr/local/bin:/usr/bin:/bin",
            **({"PYTHONPATH": str(folder)} if page == NEW_TABLE else {}),
        ),
        input="usr_06\n",
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout
    for step in here:
        output, _, printed = printed.partition(MARK)
        code, _, printed = printed.partition("\n")
        # The source has findings, and the latest day of the seeds is late.
        is_health = step.words[1] in ("check", "status") and "--cost" not in step.words
        expected = "1" if is_health else "0"
        assert code == expected, f"{step.command}: exit code {code}\n{output}"
        assert_shown(placed(step.output), output)
