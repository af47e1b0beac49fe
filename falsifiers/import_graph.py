"""Who imports whom, read from the source text with `ast`: any import, at any depth of a file.

Written without looking at `tollens.digests`, which follows imports for another purpose. Everything
is read through `text_of`, `names_in` and `loaded_by`, so that a saboteur can show a violation to
the checks: a fault in source text itself is nothing that a planted callable could be.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def text_of(path):
    """The source text of a file."""
    return path.read_text()


def names_in(folder, pattern):
    """The stems of the files in one of the project's folders."""
    return sorted(path.stem for path in (ROOT / folder).glob(pattern))


def modules(folder):
    """Dotted name → file of every module below a folder of the project."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name, path, known):
    """What the module `name` imports: modules in `known` by their full name, others as written."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(text_of(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            inner = {f"{base}.{alias.name}" for alias in node.names}
            found |= {each if each in known else base for each in inner}
    return found - {name}


def graph(*folders):
    """Module → what it imports, for all modules of some folders."""
    known = {name: path for folder in folders for name, path in modules(folder).items()}
    return {name: imports(name, path, known) for name, path in known.items()}


def reached(start, edges):
    """`start` and everything that it imports, transitively."""
    seen, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += edges.get(name, ())
    return seen


def loaded_by(statement):
    """Seconds that a statement takes in a new interpreter, and the modules loaded after it."""
    code = (
        "import json, sys, time\n"
        f"started = time.perf_counter()\n{statement}\n"
        "print(json.dumps([time.perf_counter() - started, sorted(sys.modules)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, loaded = json.loads(done.stdout)
    return seconds, set(loaded)
