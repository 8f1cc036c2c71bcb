"""The house rules that no linter knows."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = [
    path
    for folder in ("runtime", "services", "deploy", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if "__pycache__" not in path.parts
]


@pytest.mark.parametrize("lock", sorted((ROOT / "locks").glob("*.txt")), ids=lambda path: path.name)
def test_a_lock_names_no_host(lock: Path) -> None:
    assert "://" not in lock.read_text()


@pytest.mark.parametrize("lock", sorted(ROOT.glob("*/package-lock.json")), ids=lambda path: path.parent.name)
def test_a_page_lock_names_no_registry(lock: Path) -> None:
    assert '"resolved"' not in lock.read_text()


def test_no_file_passes_four_hundred_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): count for path in PYTHON if (count := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "util", "helpers", "common", "base", "manager", "misc"}
    assert [str(path) for path in PYTHON if path.stem in drawers] == []


def test_every_module_opens_with_a_sentence() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in PYTHON
        if path.read_text().strip() and not path.read_text().lstrip().startswith('"""')
    ]
    assert silent == []


def test_a_main_is_a_recipe() -> None:
    for path in (ROOT / "services").glob("*/main.py"):
        assert len(path.read_text().splitlines()) <= 60, path


def test_every_todo_has_an_issue() -> None:
    pattern = re.compile(r"#\s*(TODO|FIXME|XXX)\b(?!.*#\d+)")
    assert [str(path) for path in PYTHON if path != Path(__file__) and pattern.search(path.read_text())] == []


def test_every_adr_has_the_four_parts() -> None:
    for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"):
        headings = re.findall(r"^## (.+)$", path.read_text(), re.MULTILINE)
        assert headings == ["Status", "Context", "Decision", "Consequences"], path
