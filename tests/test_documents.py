"""Every Python snippet of README and docs runs, in the order of its page; what pages link to and name exists."""

import re
import shutil
from pathlib import Path

import pytest

from hf_reward_ext import ELHSRModel
from hf_reward_ext.demo.policy import load_policy

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def snippets(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.allow_hosts(["127.0.0.1"])  # the server of docs/engines.md
@pytest.mark.filterwarnings("ignore:This judge may be unreliable")  # the demo's judge is a toy
@pytest.mark.parametrize(
    "page", [page for page in PAGES if snippets(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_snippets_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    policy, tokenizer = load_policy()
    ELHSRModel.from_policy(policy, tokenizer).save_pretrained("outputs/demo/elhsr-2000")  # what `make demo` leaves
    names: dict = {}
    for snippet in snippets(page):
        exec(compile(snippet, str(page), "exec"), names)
    shutil.rmtree("outputs")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub and the site form them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    explicit = re.findall(r"\{#([\w-]+)\}|id=\"([\w-]+)\"", text)
    named = (re.sub(r"[^\w\- ]", "", re.sub(r"\]\(.*?\)", "", heading).lower()).strip() for heading in headings)
    return {re.sub(r" ", "-", name) for name in named} | {one for pair in explicit for one in pair if one}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_anchors_of_links_are_headings(page):
    for target, anchor in re.findall(r"\]\(((?!https?:)[^)\s#]*)#([\w-]+)\)", page.read_text()):
        linked = page.parent / target if target else page
        if linked.suffix == ".md":
            assert anchor in anchors(linked), f"{page.name} links to {target}#{anchor}"


def test_the_tree_of_the_readme_names_every_package():
    readme = (ROOT / "README.md").read_text()
    for package in (ROOT / "hf_reward_ext").iterdir():
        if (package / "__init__.py").exists():
            assert f"  {package.name}/" in readme


BENCHMARKS = sorted((ROOT / "docs" / "benchmarks").glob("*_*.md"))


@pytest.mark.parametrize("page", BENCHMARKS, ids=lambda page: page.stem)
def test_a_benchmark_page_has_a_place_and_its_scripts(page):
    assert re.fullmatch(r"[\w.-]+_[\w-]+_\d{4}-\d\d-\d\d", page.stem)
    assert f"]({page.name})" in (page.parent / "index.md").read_text()
    assert f"benchmarks/{page.name}" in (ROOT / "mkdocs.yml").read_text()
    text = page.read_text()
    assert "\nMachine: " in text and "[All pages](index.md)" in text
    scripts = set(re.findall(r"examples/benchmarks/\w+\.py", text))
    assert scripts and all((ROOT / script).exists() for script in scripts)


def named_tests(page: Path) -> list[str]:
    return re.findall(r"`(tests/[\w./]+(?:::\w+)?)`", page.read_text())


@pytest.mark.parametrize("page", [page for page in PAGES if named_tests(page)], ids=lambda page: page.name)
def test_tests_that_pages_name_exist(page):
    for name in named_tests(page):
        file, _, function = name.partition("::")
        assert (ROOT / file).exists(), f"{page.name} names {file}"
        assert not function or f"def {function}(" in (ROOT / file).read_text(), f"{page.name} names {name}"


def test_every_promise_names_its_test():
    for page in ("guarantees.md", "security.md"):
        promises = (ROOT / "docs" / page).read_text().partition("## As measured")[0]
        rows = [line for line in promises.splitlines() if line.startswith("| ")]
        lacking = [line for line in rows if "tests/" not in line and not re.match(r"\| (guarantee|promise) \|", line)]
        assert [line for line in lacking if "the same test" not in line] == [], page
