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


def github_steps():
    return [step for job in data_of(GITHUB)["jobs"].values() for step in job["steps"]]


def github_scripts():
    """Each `run:` text of the workflow."""
    return [step["run"] for step in github_steps() if "run" in step]


def gitlab_scripts(keys=("before_script", "script", "after_script")):
    """Each script of the pipeline."""
    parts = [each for each in data_of(GITLAB).values() if isinstance(each, dict)]
    return [line for part in parts for key in keys for line in part.get(key, [])]


def run_in_any_case(path):
    """The lines that a pipeline runs even if its falsifiers failed."""
    if path == GITLAB:
        return gitlab_scripts(["after_script"])
    steps = [step for step in github_steps() if step.get("if") == "always()"]
    return [line for step in steps for line in step.get("run", "").splitlines()]


def kept_in_any_case(path):
    """The files that a pipeline uploads even if its falsifiers failed."""
    if path == GITLAB:
        found = [each.get("artifacts", {}) for each in data_of(GITLAB).values()]
        return {name for each in found if each.get("when") == "always" for name in each["paths"]}
    steps = [step for step in github_steps() if step.get("if") == "always()"]
    return {
        step["with"][key]
        for step in steps
        for action, key in UPLOADS.items()
        if step.get("uses", "").startswith(f"{action}@")
    }


UPLOADS = {"actions/upload-artifact": "path", "github/codeql-action/upload-sarif": "sarif_file"}


def commands(script):
    """The words of each command in a script of plain commands, without what it is redirected to."""
    text = script.replace("\\\n", " ")
    for line in re.split(r"\n|&&|\|\||;|\|", text):
        words = re.sub(r"\d?>>?\s*\S+", "", line).split()
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words:
            yield words
