"""What the reference must name, read from the sources' text and from what `--help` prints."""

import ast
import re
from collections.abc import Iterator
from functools import cache

from falsifiers.doc_pages import ROOT
from falsifiers.doc_shell import Shell

MODELS = ("tollens/bounds.py", "tollens/contract.py", "tollens/evidence.py")
COMMANDS = {"tollens": "tollens", "engine": "python -m engine"}


def _tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text("utf-8"))


def fields() -> Iterator[tuple[str, str]]:
    """(model, field) of everything that a contract or an evidence file may hold."""
    classes = [each for path in MODELS for each in _tree(path).body if _is_model(each)]
    own = {each.name: [_field(line) for line in each.body if _is_field(line)] for each in classes}
    for each in classes:
        parent = ast.unparse(each.bases[0])
        for name in [*own.get(parent, []), *own[each.name]]:
            yield each.name, name


def _is_model(node: ast.stmt) -> bool:
    bases = {ast.unparse(each) for each in getattr(node, "bases", [])}
    return isinstance(node, ast.ClassDef) and bool(bases & {"Strict", "ClaimDigests"})


def _is_field(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign)


def _field(node: ast.AnnAssign) -> str:
    alias = re.search(r"alias='(\w+)'", ast.unparse(node.annotation))
    return alias[1] if alias else ast.unparse(node.target)


def rules() -> list[str]:
    return [key.value for key in _assigned("tollens/rules.py", "RULES").keys]


def public(path: str) -> list[str]:
    return [each.value for each in _assigned(path, "__all__").elts]


def _assigned(path: str, name: str):
    """The value of a module's name, as the tree of its expression."""
    nodes = [node for node in _tree(path).body if isinstance(node, ast.Assign | ast.AnnAssign)]
    targets = {
        ast.unparse(getattr(node, "target", None) or node.targets[0]): node for node in nodes
    }
    return targets[name].value


@cache  # of which no planted fault is a part
def helps(name: str) -> dict[str, str]:
    """What `--help` prints of a command and of all below it, by the words that call it."""
    shell, found, waiting = Shell(ROOT), {}, [COMMANDS[name]]
    while waiting:
        command = waiting.pop()
        found[command] = shell.run(f"{command} --help").out
        listed = found[command].partition("\nCommands:\n")[2]
        waiting += [f"{command} {each}" for each in re.findall(r"^  (\w[\w-]*) ", listed, re.M)]
    return found
