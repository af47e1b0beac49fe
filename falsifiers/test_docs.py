"""Tries to refute the documentation: its links, its commands, their output, and what it leaves out.

The oracles are the site as built, the commands' own parsers, real runs, and the sources' text.
"""

import ast
import json
import re
import shutil
import tomllib

import pytest
import yaml

from falsifiers import built_site, doc_pages, doc_sources, doc_stand_ins, doc_usage
from falsifiers.doc_pages import Command
from falsifiers.doc_reading import follow, unused, why_not

CONTRACT = doc_pages.ROOT / "contracts/docs-v1.yaml"
TUTORIAL, RULES = "docs/tutorial.md", "docs/rules.md"
NOT_RUN = {
    r"^git clone|^pip install": "a network",
    r"^make (oracles|distill-demo)$": "minutes",
    r"contracts/gpu-kernels": "minutes, in the interpreter of a GPU's kernels",
    r"^DISTILL_DEMO_PATH=": "what `make distill-demo` makes in minutes",
    r"Qwen3-Coder-30B.* pytest|--shape qwen3-30b|SHAPE_GGUF_PATH": "gigabytes, which are not here",
    r"engine run .*--device cuda|^torchrun |contracts/qwen3-moe-gpu": "a GPU",
    r"engine watch |engine dispatch (?!(?s:.)*--dry-run)": (
        "another machine; dispatch-v1 runs the commands on one of its own"
    ),
}
PROMPT = re.compile(r"^ *\$ ", re.MULTILINE)  # in a block of whatever language
# Pages of examples that are no session: each is followed from a project of its own.
ELSEWHERE = {RULES: "tollens-ci-v1 runs each example"}


def shown(found):
    """Print what was found, for the one who has to mend it; and count it."""
    found = list(found)
    print("\n".join(map(str, found)))
    return len(found)


@pytest.mark.falsifies("TOLLENS-DOCS-001")
def test_the_site_builds_and_every_link_leads_somewhere(observe, tmp_path):
    observe("warnings", shown(built_site.build(tmp_path)))
    observe("dead_links", shown(built_site.dead_links(tmp_path)))
    observe("unrendered", shown(built_site.unrendered(tmp_path)))
    pages = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.html")}
    observe("unlisted_pages", shown(pages - {"404.html"} - built_site.listed(tmp_path)))
    observe("pages", len(pages))


@pytest.mark.falsifies("TOLLENS-DOCS-002")
def test_every_command_exists_and_takes_its_options(observe):
    commands = [each for page in doc_pages.pages() for each in typed(page)]
    named = [each for page in doc_pages.pages() for each in doc_usage.named(page)]
    wrong = [(each.at, doc_usage.complaint(each.text)) for each in commands]
    wrong += [(at, doc_usage.unknown_in(text)) for at, text in named]
    observe("wrong_commands", shown((at, said) for at, said in wrong if said))
    observe("commands", len(commands) + len(named))
    texts = [each.text for each in commands]
    observe("idle_reasons", shown([*unused(NOT_RUN, texts), *doc_stand_ins.idle(texts)]))
    own = yaml.safe_load(CONTRACT.read_text("utf-8"))["subject"]
    observe("pages_without_digest", shown(set(doc_pages.pages()) - set(own)))
    observe("not_run", shown(each for each in texts if why_not(each, NOT_RUN)))
    blocks = [each for page in doc_pages.pages() for each in doc_pages.blocks(page)]
    observe("unparsable_blocks", shown(filter(None, map(unparsable, blocks))))


def typed(page):
    return [step for step in doc_pages.steps(page) if isinstance(step, Command)]


PARSERS = {"json": json.loads, "python": ast.parse, "toml": tomllib.loads, "yaml": yaml.safe_load}


def unparsable(block):
    try:
        PARSERS.get(block.language, str)(block.text)
    except (ValueError, SyntaxError, yaml.YAMLError) as error:
        return f"{block.page}:{block.line}: {error}"
    return ""


@pytest.mark.falsifies("TOLLENS-DOCS-003")
def test_every_command_prints_what_the_page_shows(observe, tmp_path):
    pages = sorted(doc_pages.pages(), key=lambda page: page != TUTORIAL)
    start, readings = tmp_path / "start", []
    start.mkdir()
    for number, page in enumerate(pages):
        folder = tmp_path / str(number) / start.name
        shutil.copytree(start, folder, symlinks=True)
        tutorial = page == TUTORIAL
        not_run = {} if tutorial else {"": ELSEWHERE[page]} if page in ELSEWHERE else NOT_RUN
        readings.append(follow(page, folder, not_run, every_output=tutorial))
        start = readings[-1].folder if tutorial else start
    observe("failed_commands", shown(line for each in readings for line in each.failed))
    observe("differing_outputs", shown(line for each in readings for line in each.differing))
    print("\nnot run:", *(line for each in readings for line in each.listed), sep="\n")
    prompts = sum(len(PROMPT.findall(doc_pages.text_of(page))) for page in pages)
    observe("unaccounted", prompts - sum(each.run + len(each.listed) for each in readings))


# A page's text, and what the reader must find wrong with it: exit codes, outputs, usage.
CONTROLS = {
    "$ true\n$ echo a\na\n": (0, 0, 0),
    "$ false\n": (1, 0, 0),
    "$ false\n$ echo $?\n1\n": (0, 0, 0),
    "$ false\n$ echo $?\n0\n": (0, 1, 0),
    "$ echo a b\na c\n": (0, 1, 0),
    "$ echo a b\na …\n": (0, 0, 0),
    "$ echo a\n…\nb\n": (0, 1, 0),
    "$ printf 'a\\nb\\nc\\n'\na\n…\nc\n": (0, 0, 0),
    "$ printf 'a\\nb\\nc\\n'\na\nc\n": (0, 1, 0),
    "$ printf 'a\\nb\\n'\na\n": (0, 1, 0),
    "$ echo 3 of 5 in 0.71 s\n3 of 5 in 1.23 s\n": (0, 0, 0),
    "$ echo 3 of 5\n4 of 5\n": (0, 1, 0),
    "$ echo 3580000 bytes\n3580001 bytes\n": (0, 1, 0),
    "$ echo made by 1a2b3c4d on 2026-11-26\nmade by 4d3c2b1a on 2026-11-27\n": (0, 0, 0),
    "$ cat absent\n": (1, 0, 0),
    "$ tollens explain yaml > said\n$ grep -c rule said\n1\n": (0, 0, 0),
    "$ tollens explain nonsense\n": (1, 0, 0),
    "$ tollens status --fast\n": (1, 0, 1),
    "$ tollens prove\n": (1, 0, 1),
    "$ tollens diff one\n": (1, 0, 1),
    "$ pytest --contracts x\n": (1, 0, 1),
    "$ python -m engine run tiny.gguf\n": (1, 0, 1),
    "$ no-such-command\n": (1, 0, 1),
    "$ make everything\n": (1, 0, 1),
    "$ python -m http.server 8000 &\n$ echo on\non\n": (1, 0, 1),
    "$ python benchmarks/cpu.py --nosuch\n": (1, 0, 1),
}
CHANGES = {
    "```diff\n-a\n+b\n```\n\n```console\n$ cat f.txt\nb\n```\n": 0,
    "```diff\n-x\n+b\n```\n": 1,
    "```diff\n a\n-a\n+b\n```\n": 1,
}


@pytest.mark.falsifies("TOLLENS-DOCS-004")
def test_the_reader_notices_what_is_wrong_with_a_page(observe, tmp_path, monkeypatch):
    wrong = []
    for number, (block, expected) in enumerate(CONTROLS.items()):
        reading = read(tmp_path / str(number), f"```console\n{block}```\n", monkeypatch)
        usage = sum(bool(doc_usage.complaint(each.text)) for each in typed("small.md"))
        found = (len(reading.failed), len(reading.differing), usage)
        wrong += [(block, found, expected)] if found != expected else []
    for number, (change, expected) in enumerate(CHANGES.items()):
        page = f"Write `f.txt`:\n\n```text\na\n```\n\nChange `f.txt`:\n\n{change}"
        reading = read(tmp_path / f"change-{number}", page, monkeypatch)
        found = len(reading.failed) + len(reading.differing)
        wrong += [(change, found, expected)] if found != expected else []
    observe("misread_pages", shown(wrong))
    observe("small_pages", len(CONTROLS) + len(CHANGES))


def read(folder, text, monkeypatch):
    folder.mkdir()
    monkeypatch.setattr(doc_pages, "text_of", lambda page: text)
    return follow("small.md", folder, {})


@pytest.mark.falsifies("TOLLENS-DOCS-005")
def test_the_reference_names_every_field_rule_command_option_and_name(observe):
    from reference import pages

    made = pages.generated()
    fields, rules = list(doc_sources.fields()), doc_sources.rules()
    models = sections(made["reference/contract.md"]) | sections(made["reference/evidence.md"])
    rows = {(model, field) for model, text in models.items() for field in first_cells(text)}
    observe("missing_fields", shown(each for each in fields if each not in rows))
    observe("missing_rules", shown(set(rules) ^ set(LINKED.findall(doc_pages.text_of(RULES)))))
    names = [(page, name) for page, path in PUBLIC for name in doc_sources.public(path)]
    missing = [(page, name) for page, name in names if not names_it(made[page], name)]
    observe("missing_names", shown(missing))
    helps = {name: doc_sources.helps(name) for name in doc_sources.COMMANDS}
    unlike = [
        command
        for name, found in helps.items()
        for command, text in found.items()
        if squeezed(text) not in squeezed(sections(made[f"reference/{name}.md"]).get(command, ""))
    ]
    observe("missing_commands", shown(unlike))
    observe("undescribed", shown(row for text in made.values() for row in undescribed(text)))
    entries = len(fields) + len(rules) + len(names) + sum(map(len, helps.values()))
    observe("entries", entries)


LINKED = re.compile(r"^\| \[([\w-]+)\]\(#\1\) \|", re.MULTILINE)
PUBLIC = (
    ("reference/api-tollens.md", "tollens/__init__.py"),
    ("reference/api-engine.md", "engine/__init__.py"),
    ("reference/api-engine.md", "engine/distill/__init__.py"),
)


def sections(page):
    """Heading of the second rank → its text."""
    parts = re.split(r"^## (.*)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def first_cells(text):
    return re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)


def names_it(page, name):
    return re.search(rf"^##+ {name}$|[├└]── {name} ", page, re.MULTILINE)


def squeezed(text):
    return re.sub(r"\s+", " ", text).strip()


def undescribed(page):
    """Table rows whose last cell is empty, and headings with nothing below them."""
    yield from re.findall(r"^\| `.*\| +\|$", page, re.MULTILINE)
    yield from re.findall(r"^(#+ .*)\n+(?=#|\Z)", page, re.MULTILINE)
