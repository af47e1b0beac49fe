"""The files that others take from this repository as they are: hooks, pipelines, the rules' page.

Everything is read through `text_of`, so that a saboteur can show a fault to the checks: a fault in
a text is nothing that a planted callable could be.
"""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
HOOKS = ".pre-commit-hooks.yaml"
GITHUB = "docs/ci/github.yml"
GITLAB = "docs/ci/gitlab.yml"
RULES = "docs/rules.md"


def text_of(path):
    """The text of a file of the repository."""
    return (ROOT / path).read_text()


def data_of(path):
    """The data of a YAML file; the key `on` is a string, as it is in YAML 1.2."""
    data = yaml.safe_load(text_of(path))
    return {"on" if key is True else key: value for key, value in data.items()}


def github_scripts():
    """Each `run:` text of the workflow."""
    jobs = data_of(GITHUB)["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def gitlab_scripts():
    """Each script of the pipeline."""
    parts = [each for each in data_of(GITLAB).values() if isinstance(each, dict)]
    keys = ("before_script", "script", "after_script")
    return [line for part in parts for key in keys for line in part.get(key, [])]


def commands(script):
    """The words of each command in a script of plain commands, without what it is redirected to."""
    text = script.replace("\\\n", " ")
    for line in re.split(r"\n|&&|\|\||;|\|", text):
        words = re.sub(r"\d?>>?\s*\S+", "", line).split()
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words:
            yield words
