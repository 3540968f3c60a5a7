"""The wheel ships every package in the tree, under the import names that it promises, and nothing else."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS: dict[str, str] = CONFIG["tool"]["setuptools"]["package-dir"]
SHIPPED = ("*.py", "*.pyi", "*.proto", "*.toml", "py.typed")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in the archive of a wheel, built from a clean copy of the packages without network."""
    scratch = tmp_path_factory.mktemp("wheel")
    source = scratch / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [sys.executable, *command, "--wheel-dir", str(scratch), str(source)], check=True, capture_output=True
    )
    (built,) = scratch.glob("*.whl")
    return set(zipfile.ZipFile(built).namelist())


def test_every_package_is_listed() -> None:
    found: set[str] = set()
    for name, folder in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join((name, *init.parent.relative_to(ROOT / folder).parts)))

    assert set(CONFIG["tool"]["setuptools"]["packages"]) == found


def test_every_package_is_typed_and_has_a_link_for_the_type_checker() -> None:
    for name, folder in FOLDERS.items():
        link = ROOT / ".typing" / name.replace(".", "/")
        assert (ROOT / folder / "py.typed").is_file()
        assert link.resolve() == ROOT / folder


def test_the_top_level_of_the_wheel_is_the_import_package_alone(wheel: set[str]) -> None:
    version = CONFIG["project"]["version"]

    assert {name.split("/")[0] for name in wheel} == {"purposematch", f"purposematch-{version}.dist-info"}
    assert "purposematch/__init__.py" not in wheel


def test_the_wheel_ships_every_module_and_data_file(wheel: set[str]) -> None:
    expected = {
        f"{name.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}"
        for name, folder in FOLDERS.items()
        for pattern in SHIPPED
        for path in (ROOT / folder).rglob(pattern)
    }

    assert {name for name in wheel if name.startswith("purposematch/")} == expected


def test_the_licence_is_in_the_wheel(wheel: set[str]) -> None:
    assert any(name.endswith("/licenses/LICENSE") for name in wheel)
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_constraints_are_versions_without_addresses() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [line for line in lines if not line.startswith("#")]

    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in pinned)
    assert pinned == sorted(pinned, key=str.lower)


def test_everything_that_is_asked_for_is_constrained() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {_name(line) for line in lines if not line.startswith("#")}
    project, groups = CONFIG["project"], CONFIG["dependency-groups"]
    lists = [project["dependencies"], *project["optional-dependencies"].values(), *groups.values()]
    # A group may also include another one, which is here by itself.
    asked = [entry for entries in lists for entry in entries if isinstance(entry, str)]

    assert {_name(entry) for entry in asked} <= pinned


def _name(requirement: str) -> str:
    """The normalized name at the beginning of a requirement."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


@pytest.mark.parametrize("missing", ["sqlalchemy", "fideslang", "opendp", "tomlkit"])
def test_without_the_extra_the_platform_s_program_says_what_to_install(missing: str) -> None:
    code = (
        "import sys; sys.modules[sys.argv[1]] = None; "
        "from purposematch.server.program import main; raise SystemExit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code, missing], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "purposematch[server]" in done.stderr
