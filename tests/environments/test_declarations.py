"""Declarations from strangers: what is refused on reading."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellular_bench.core.errors import UserError
from cellular_bench.environments import declaration
from cellular_bench.environments.declaration import find, shipped

PYTHON = 'title = "T"\n[python]\nversion = "3.11"\nrequirements = [{line}]\n'
R = 'title = "T"\n[r]\nversion = "4.1"\npackages = {packages}\n'


def written(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


#: Lines that pip would take for an address, a path, an option, or more than one package.
ATTACKS = [
    "evil @ https://example.org/evil.tar.gz",
    "evil @ file:///tmp/evil",
    "https://example.org/evil-1.0.tar.gz",
    "git+https://example.org/evil.git",
    "./evil",
    "/tmp/evil",
    "-e .",
    "-r other.txt",
    "-r==1.0",
    "--index-url==http://127.0.0.1:9/simple",
    "--index-url=http://127.0.0.1:9/simple",
    "numpy==2.0 --index-url=http://127.0.0.1:9/simple",
    "numpy==2.0 --config-settings=x=y",
    "numpy==2.0 ; python_version > '3' --global-option=x",
    "numpy==2.0\\n--index-url=http://127.0.0.1:9/simple",
    "numpy==2.0\\nevil",
    "numpy==2.*",
    "numpy===anything",
    "numpy==2.0,!=2.1",
    "numpy>=2",
    "numpy",
    "",
]


@pytest.mark.parametrize("line", ATTACKS)
def test_a_line_that_pip_would_take_for_more_than_a_package_is_refused(tmp_path, line):
    with pytest.raises(UserError, match=r"does not pin an exact version; write NAME==VERSION\."):
        find(written(tmp_path, PYTHON.format(line=f'"{line}"')))


@pytest.mark.parametrize("line", [line for line in ATTACKS if line and "\\n" not in line])
def test_the_same_holds_for_a_lock(tmp_path, line):
    (tmp_path / "mine.lock").write_text(f"numpy==2.0\n{line}\n")
    with pytest.raises(UserError, match="does not pin an exact version"):
        find(written(tmp_path, PYTHON.format(line='"numpy==2.0"') + 'lock = "mine.lock"\n'))


@pytest.mark.parametrize(
    "line", ["numpy==2.0", "torch==2.13.0+cpu", "a[b,c]==1", 'a==1; python_version < "4"']
)
def test_exact_versions_with_extras_and_markers_are_read(tmp_path, line):
    text = PYTHON.format(line=f"'{line}'")
    assert find(written(tmp_path, text)).python.requirements == (line,)


def test_what_ships_passes():
    assert [find(name).name for name in shipped()] == list(shipped())


@pytest.mark.parametrize("lock", ["../secret", "/etc/passwd", "sub/mine.lock", ".hidden", "~/x"])
def test_a_lock_is_a_file_beside_its_declaration(tmp_path, lock):
    with pytest.raises(UserError, match="must be the plain name of a file beside the declaration"):
        find(written(tmp_path, PYTHON.format(line='"numpy==2.0"') + f'lock = "{lock}"\n'))


@pytest.mark.parametrize("entry", ['name = "../../evil"', 'reference = "x"', 'lock_lines = ["a==1"]'])
def test_a_file_does_not_choose_the_folder_of_its_environment(tmp_path, entry):
    with pytest.raises(UserError, match="there is no such entry"):
        find(written(tmp_path, f"{entry}\n" + PYTHON.format(line='"numpy==2.0"')))


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        ("{ '-e' = '1', 'system(\"id\")' = '1' }", "'-e' is not the name of an R package"),
        ("{ 'Matrix ' = '1' }", "is not the name of an R package"),
        ("{ Matrix = 'new' }", r"'new' is not a version"),
        ("{ Matrix = '' }", r"'' is not a version"),
    ],
)
def test_names_that_rscript_would_take_for_options_are_refused(tmp_path, packages, message):
    """``Rscript -e A -e B`` runs both: a package named ``-e`` would run the name of the next one."""
    with pytest.raises(UserError, match=message):
        find(written(tmp_path, R.format(packages=packages)))


PIECES = [
    "numpy",
    "==",
    "2.0",
    " ",
    "[a]",
    ";",
    "python_version > '3'",
    "@",
    "https://x.org/a",
    "-r",
    "--hash=",
    "\n",
]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=20))
def test_no_text_but_a_package_with_its_version_passes(line):
    """Whatever passes is one line, names no address and no option, and holds one ``==``."""
    try:
        name = declaration.exact_name(line)
    except UserError:
        return
    before = line.partition(";")[0]
    assert line.strip().startswith(name)
    assert line.isprintable()
    assert before.count("==") == 1
    assert not {"@", "/", "\n"} & set(before)
    assert " -" not in line
