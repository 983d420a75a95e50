"""The checks of dependencies, builds and workflows pass on this checkout, and fail on what they guard against."""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.helpers import script
from tests.test_environment import write_wheel

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / ".ci" / "locks"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

audit, build_twice, check_tag = script("audit"), script("build_twice"), script("check_tag")
licenses, lock, write_sbom = script("licenses"), script("lock"), script("write_sbom")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def requirements(*extras):
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return [Requirement(line) for line in lines]


# The floors of the dependencies.

ROW = re.compile(r"^\| `(?P<name>[a-z0-9-]+)` \| (?P<floor>[\d.]+) \| (?P<reason>.+) \|$", re.MULTILINE)


def too_low(page, floors):
    """The rows of the page's table of floors that pyproject.toml does not keep, and the floors without a row."""
    rows = {row["name"]: row for row in ROW.finditer(page)}
    wrong = floors.keys() ^ rows.keys()
    for name in floors.keys() & rows.keys():
        fixes = re.findall(r"CVE-\d+-\d+[^;]*fixed in ([\d.]*\d)", rows[name]["reason"])
        if floors[name] != rows[name]["floor"] or any(Version(floors[name]) < Version(fix) for fix in fixes):
            wrong.add(name)
    return wrong


def test_every_floor_has_its_reason():
    page = (ROOT / "docs" / "dependencies.md").read_text()
    floors = {
        each.name: str(each.specifier).removeprefix(">=") for each in requirements("train", "tensorboard", "plot")
    }
    assert page.count("CVE-") >= 5
    assert too_low(page, floors) == set()
    assert too_low(page, {**floors, "torch": "2.9"}) == {"torch"}
    assert too_low(page.replace("| 2.10 |", "| 2.9 |"), {**floors, "torch": "2.9"}) == {"torch"}
    assert too_low(page, {**floors, "requests": "2"}) == {"requests"}


# The lock files.


def not_locked(wanted, locks):
    """The requirements that no entry of the locks meets, and the entries without a hash."""
    pins = dict(pin for text in locks for pin in audit.pins(text))
    missing = {each.name for each in wanted if each.name not in pins or pins[each.name] not in each.specifier}
    bare = re.findall(r"^([a-z0-9-]+)==[^\\\n]*$", "\n".join(locks), re.MULTILINE)
    return missing | set(bare)


def test_the_locks_have_what_the_project_needs():
    full = [(LOCKS / name).read_text() for name in ("full.txt", "torch.txt")]
    assert not_locked(requirements("train", "dev", "plot", "tensorboard"), full) == set()
    assert not_locked(requirements(), [(LOCKS / "newest.txt").read_text()]) == set()
    floors = [Requirement(line.replace(">=", "==")) for line in PROJECT["dependencies"]]
    assert not_locked(floors, [(LOCKS / "oldest.txt").read_text()]) == set()
    assert not_locked([Requirement("torch>=99"), Requirement("pandas")], full) == {"torch", "pandas"}
    assert not_locked([], ["numpy==2.0\ntorch==1 \\\n    --hash=sha256:0"]) == {"numpy"}


def test_a_lock_has_one_entry_for_each_version(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "LOCKS", tmp_path)
    lock._write("two", {"3.11": {"a": ("1", "0f"), "b": ("1", "1f")}, "3.12": {"a": ("1", "2f"), "b": ("2", "3f")}})
    assert (tmp_path / "two.txt").read_text().splitlines() == [
        "# Written by scripts/lock.py.",
        "a==1 \\",
        "    --hash=sha256:0f \\",
        "    --hash=sha256:2f",
        'b==1 ; python_version == "3.11" \\',
        "    --hash=sha256:1f",
        'b==2 ; python_version == "3.12" \\',
        "    --hash=sha256:3f",
    ]


def test_pip_refuses_a_file_with_another_hash(tmp_path):
    write_wheel(tmp_path, "small", "1")
    digest = hashlib.sha256((tmp_path / "small-1-py3-none-any.whl").read_bytes()).hexdigest()
    download = [sys.executable, "-m", "pip", "download", "--no-index", f"--find-links={tmp_path}", "--dest=there"]
    download += ["--no-deps", "--require-hashes", "--requirement=lock.txt"]
    for sha256, status in ((digest, 0), ("0" * 64, 1)):
        (tmp_path / "lock.txt").write_text(f"small==1 --hash=sha256:{sha256}\n")
        result = subprocess.run(download, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == status
    assert "DO NOT MATCH THE HASHES" in result.stderr


# The audit.


def test_an_audit_that_looked_nothing_up_fails():
    report = json.loads((ROOT / "tests" / "audits" / "nothing_audited.json").read_text())
    text = "\n".join(f"{each['name']}==1 \\" for each in report["dependencies"])
    problems = audit.find_problems(text, report)
    assert len(problems) == 2 * len(report["dependencies"]) > 40
    assert "not audited: Dependency not found on PyPI" in problems[0]


def test_an_audit_of_everything():
    vulnerability = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}
    good = {"name": "A_b", "version": "1", "vulns": []}
    assert audit.find_problems("a-b==1 \\", {"dependencies": [good]}) == []
    assert audit.find_problems("", {"dependencies": []}) == ["the lock names no package"]
    assert audit.find_problems("a-b==2 \\", {"dependencies": [good]}) == ["a-b 2: not in the report"]
    bad = {"dependencies": [{**good, "vulns": [vulnerability]}]}
    assert audit.find_problems("a-b==1 \\", bad) == ["a-b 1: PYSEC-1, fixed in 2"]


def test_an_accepted_vulnerability_passes(monkeypatch):
    monkeypatch.setattr(audit, "ACCEPTED", {"CVE-1": "does not concern us"})
    found = {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": []}]}
    assert audit.find_problems("a==1 \\", {"dependencies": [found]}) == []


# The bill of materials and the licenses.


def test_a_bill_lists_what_is_installed():
    bill = {"components": [{"name": "A_b", "version": "1"}]}
    assert write_sbom.find_problems(bill, [("a-b", "1")]) == []
    assert write_sbom.find_problems(bill, [("a-b", "1"), ("c", "2")]) == ["c 2: installed, but not listed"]
    assert write_sbom.find_problems(bill, [("a-b", "2")]) == [
        "a-b 2: installed, but not listed",
        "a-b 1: listed, but not installed",
    ]
    assert write_sbom.find_problems({}, []) == ["nothing is installed there"]


@pytest.mark.parametrize("license_", ["GPL-3.0-only", "UNKNOWN", "MIT AND LGPL-2.1", "Mozilla Public License 2.0", ""])
def test_a_license_that_nobody_reviewed_is_noticed(license_):
    assert licenses.find_problems({"numpy": "MIT AND 0BSD", "new": license_}) == [f"new: {license_}"]


def test_permissive_and_reviewed_licenses_pass():
    assert licenses.find_problems({"a": "MIT", "b": "Apache-2.0 OR BSD-2-Clause", "pathspec": "MPL-2.0"}) == []
    assert licenses.find_problems({}) == ["no packages are installed there"]


# Reproducible builds.

PLANTED = """
import datetime, os
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

class Hook(BuildHookInterface):
    def initialize(self, version, build_data):
        with open(os.path.join(self.root, "package", "made.py"), "w") as file:
            file.write(f"where = {WHAT!r}")
"""


def small_project(folder, what):
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "__init__.py").write_text("")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "package"\nversion = "1"\n[tool.hatch.build.hooks.custom]\npath = "hook.py"\n'
    )
    (folder / "hook.py").write_text(PLANTED.replace("WHAT", what))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "equal"),
    [("1", True), ("self.root", False), ("os.environ['TZ']", False), ("oct(os.umask(0))", False), ("hash('a')", False)],
)
def test_a_build_that_depends_on_where_it_ran_is_noticed(tmp_path, what, equal):
    checkout = small_project(tmp_path / "checkout", what)
    command = [sys.executable, ROOT / "scripts" / "build_twice.py", tmp_path / "dist", checkout]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == (0 if equal else 1), result.stderr
    if not equal:
        assert "error: two builds differ in package-1" in result.stderr


# Releases and workflows.


@pytest.fixture
def release(tmp_path, monkeypatch):
    monkeypatch.setattr(check_tag, "ROOT", tmp_path)

    def check(tag, version="1.2.3", changelog="# Changelog\n\n## 1.2.3 – 2027-01-01\n"):
        (tmp_path / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
        (tmp_path / "CHANGELOG.md").write_text(changelog)
        monkeypatch.setattr(sys, "argv", ["check_tag.py", tag])
        check_tag.main()

    return check


def test_the_tag_is_the_version(release):
    release("v1.2.3")
    with pytest.raises(SystemExit, match=r"the tag is v1\.2\.4, but pyproject\.toml says 1\.2\.3"):
        release("v1.2.4")
    with pytest.raises(SystemExit, match="not a version to release"):
        release("v1.2.3.dev0", "1.2.3.dev0")
    with pytest.raises(SystemExit, match="no entry for"):
        release("v1.2.3", changelog="# Changelog\n\n## Unreleased\n")


def loose(workflow):
    """What is wrong with a workflow: actions without a digest and version, and permissions for all jobs."""
    problems = [line.strip() for line in re.findall(r"^.*\buses:.*$", workflow, re.MULTILINE)]
    problems = [line for line in problems if not re.fullmatch(r"- uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", line)]
    if "\npermissions: {}\n" not in workflow:
        problems.append("permissions")
    checkouts = len(re.findall("uses: actions/checkout@", workflow))
    if checkouts != workflow.count("persist-credentials: false"):
        problems.append("persist-credentials")
    if len(re.findall(r"^    runs-on:", workflow, re.MULTILINE)) != workflow.count("    timeout-minutes:"):
        problems.append("timeout-minutes")
    return problems


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_pin_their_actions_and_have_least_permissions(path):
    workflow = path.read_text()
    assert len(WORKFLOWS) == 2
    assert loose(workflow) == []
    assert loose(re.sub(r"@[0-9a-f]{40}", "@v6", workflow)) != []
    assert loose(workflow.replace("permissions: {}", "permissions: write-all")) == ["permissions"]
    assert loose(workflow.replace("persist-credentials: false", "", 1)) == ["persist-credentials"]


def test_one_digest_for_each_action():
    uses = {tuple(each.split("@")) for path in WORKFLOWS for each in re.findall(r"uses: (\S+@\S+)", path.read_text())}
    assert len(uses) == len({action for action, _ in uses})


# CI itself.


def test_ci_scripts_stop_at_the_first_failure():
    files = [path for folder in (".ci", "scripts") for path in (ROOT / folder).iterdir() if path.is_file()]
    scripts = [path for path in files if path.read_bytes().startswith(b"#!/usr/bin/env bash")]
    assert {"run", "install", "shipped", "check", "test"} <= {path.name for path in scripts}
    for path in scripts:
        assert "\nset -euo pipefail\n" in path.read_text(), path
        assert "|| true" not in path.read_text(), path
