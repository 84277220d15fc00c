"""What an environment would import: found by metadata alone, nothing is installed or imported."""

from __future__ import annotations

from pathlib import Path

from largeforge.environments.packages import closure, versions


def installed(folder: Path, name: str, version: str, *needs: str) -> str:
    """Write the metadata of a package into a folder, as an installer leaves them."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {need}" for need in needs)]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    return str(folder)


def test_own_packages_hide_those_beneath_and_the_rest_is_shared(tmp_path: Path) -> None:
    own = installed(tmp_path / "own", "tool", "1.0", "loader<=5", "maths")
    installed(tmp_path / "own", "loader", "5.0", "maths>=2")
    base = installed(tmp_path / "base", "loader", "6.0")
    installed(tmp_path / "base", "maths", "2.13.0+cpu")
    found = closure({"tool": "1.0", "loader": "5.0"}, [own, base], own=[own])
    assert found.problems == []
    assert found.versions == {"tool": "1.0", "loader": "5.0", "maths": "2.13.0+cpu"}


def test_needs_that_are_not_met_are_told(tmp_path: Path) -> None:
    own = installed(tmp_path / "own", "tool", "1.0", "loader<=5", "gone", "fast; extra == 'speed'")
    base = installed(tmp_path / "base", "loader", "6.0", "old<1")
    installed(tmp_path / "base", "old", "2.0")
    found = closure({"tool": "1.0"}, [own, base], own=[own])
    assert found.problems == ["tool 1.0 needs loader<=5; 6.0 is there", "tool 1.0 needs gone; none is there"]


def test_a_pin_that_something_else_stands_in_for_is_told(tmp_path: Path) -> None:
    base = installed(tmp_path / "base", "tool", "2.0")
    assert closure({"tool": "1.0"}, [base], own=[]).problems == ["tool is 2.0, and 1.0 is pinned"]


def test_a_package_that_changed_beneath_is_seen(tmp_path: Path) -> None:
    base = installed(tmp_path / "base", "maths", "2.0")
    assert versions(["maths", "gone"], [base]) == {"maths": "2.0"}
