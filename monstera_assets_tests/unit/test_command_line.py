"""Options, completion and colors, which are the same in all commands."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from monstera_assets.cli import main
from monstera_assets_tests.helpers.command_line import MONSTERA, SEEDS, environment, in_this_process

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command_line.md"
SEQUENCE = re.compile(r"\x1b\[([\d;]*)([A-Za-z])")


def options() -> dict[str, dict[str, click.Option]]:
    """Return each command's option by the option's name."""
    found: dict[str, dict[str, click.Option]] = {}
    for name, command in main.commands.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                for spelling in parameter.opts:
                    found.setdefault(spelling, {})[name] = parameter
    return found


def value_of(option: click.Option) -> str:
    """Return the kind of an option's value, as the help text shows it."""
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return "CHOICE"
    return option.metavar or option.type.name.upper()


def test_an_option_has_the_same_value_in_all_commands() -> None:
    kinds = {
        name: {value_of(option) for option in by_command.values()}
        for name, by_command in options().items()
    }
    assert kinds.pop("--output") == {"FOLDER", "FILE"}
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}
    # The same value has the same name, and each option is spelled in one way only.
    dates = {name for name, found in kinds.items() if found == {"DATE"}}
    assert dates == {"--from", "--to", "--as-of"}
    for by_command in options().values():
        for option in by_command.values():
            assert len(option.opts) == 1
            assert re.fullmatch(r"--[a-z]+(-[a-z]+)*", option.opts[0])
            assert option.help


def test_the_page_lists_every_option_and_its_commands() -> None:
    rows = re.findall(r"^\| (`--.*?`) \| (.*?) ?\| (.*?) \| .* \|$", PAGE.read_text(), re.MULTILINE)
    listed = {
        name: (value, set(re.findall(r"`([a-z-]+)`", commands)))
        for names, value, commands in rows
        for name in re.findall(r"`(--[a-z-]+)`", names)
    }
    assert listed.keys() == options().keys()
    for name, by_command in options().items():
        value, commands = listed[name]
        if commands:  # otherwise in words
            assert commands == {*by_command}, name
        kinds = {value_of(option) for option in by_command.values()}
        assert kinds == {"CHOICE"} or kinds == {*value.split(" or ")}, name


@pytest.mark.parametrize(
    ("arguments", "new"),
    [
        (["generate", "--end-date", "2025-06-30"], "--to"),
        (["generate", "--until", "2025-06-30"], "--as-of"),
        (["status", "--html", "costs.html"], "--output"),
    ],
)
def test_an_old_name_of_an_option_names_the_new_one(arguments: list[str], new: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == f"Error: {arguments[1]} is now called {new}."


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("monstera st", ["plain,status"]),
        ("monstera export --f", ["plain,--format"]),
        ("monstera export --format p", ["plain,parquet"]),
        ("monstera run --source ", ["dir,"]),
        ("monstera run --database ", ["file,"]),
    ],
)
def test_shells_complete_commands_options_and_paths(words: str, expected: list[str]) -> None:
    program = (
        "import sys; sys.argv[0] = 'monstera'\n"
        "from monstera_assets.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'dagster', 'duckdb', 'ibis'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(
            _MONSTERA_COMPLETE="bash_complete",
            COMP_WORDS=words,
            COMP_CWORD=str(len(words.split(" ")) - 1),
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == expected
    assert done.stderr.splitlines()[-1] == "[]"


def test_bash_reads_the_completion() -> None:
    script = (
        f'PATH="{MONSTERA.parent}:$PATH"; eval "$(_MONSTERA_COMPLETE=bash_source monstera)";'
        " complete -p monstera"
    )
    done = subprocess.run(["bash", "-c", script], env=environment(), capture_output=True, text=True)
    assert done.stdout.split()[-1] == "monstera", done.stderr


def printed(folder: Path, *, terminal: bool, **variables: str) -> str:
    """Return what `monstera check` prints about the seeds, to a terminal or to a pipe."""
    command = [str(MONSTERA), "check", "--source", str(SEEDS)]
    given = environment(TERM="xterm-256color", COLUMNS="120", **variables)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        if name not in variables:
            given.pop(name, None)
    if not terminal:
        done = subprocess.run(
            command, cwd=folder, env=given, capture_output=True, text=True, check=False
        )
        assert not done.stderr
        return done.stdout
    controller, descriptor = pty.openpty()
    with subprocess.Popen(command, cwd=folder, env=given, stdout=descriptor) as process:
        os.close(descriptor)
        output = b""
        while True:
            try:
                read = os.read(controller, 65536)
            except OSError:  # the process has closed the terminal
                break
            if not read:
                break
            output += read
        process.wait()
    os.close(controller)
    return output.decode()


def test_output_is_styled_only_in_a_terminal(tmp_path: Path) -> None:
    assert "\x1b" not in printed(tmp_path, terminal=False)
    in_terminal = printed(tmp_path, terminal=True)
    assert SEQUENCE.search(in_terminal)
    without = printed(tmp_path, terminal=True, NO_COLOR="1")
    codes = {code for codes, kind in SEQUENCE.findall(without) for code in codes.split(";")}
    assert codes <= {"0", "1"}, "only bold text and its end"
    assert SEQUENCE.sub("", without) == SEQUENCE.sub("", in_terminal)


def test_a_folder_without_a_source_names_the_demo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = in_this_process(monkeypatch, tmp_path, "run", source=Path("seeds"))
    assert done.code == 2
    assert "Run `monstera demo` to start with example data" in done.err
    assert not [*tmp_path.iterdir()]


def test_a_missing_column_is_reported_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in SEEDS.glob("*.csv"):
        text = path.read_text(encoding="utf-8")
        if path.name == "seed_events.csv":
            text = text.replace("timestamp", "at", 1)
        (source / path.name).write_text(text, encoding="utf-8")
    done = in_this_process(monkeypatch, tmp_path, "run", source=source)
    assert done.code == 2
    assert "seed_events.csv is missing required columns: timestamp." in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
