"""Tasks of the kind `replace`: the same change in several files, and not everywhere."""

from engine.agent.task import Check, task, texts

RENAME = task(
    "replace-name",
    """Rename the function get_user to find_user, in every file that defines, calls or mentions it.
    The functions get_user_id and forget_user keep their names. test_users.py has to pass
    afterwards, with the new name.""",
    {
        "users/__init__.py": """
            from users.store import forget_user, get_user

            __all__ = ["forget_user", "get_user"]
            """,
        "users/store.py": '''
            """Users by name."""

            USERS = {"ann": 1, "bob": 2}


            def get_user_id(name):
                return USERS[name]


            def get_user(name):
                return (get_user_id(name), name) if name in USERS else None


            def forget_user(name):
                return {each: number for each, number in USERS.items() if each != name}
            ''',
        "users/greet.py": """
            from users.store import get_user


            def greet(name):
                user = get_user(name)
                return f"hello {user[1]}" if user else "who are you?"
            """,
        "test_users.py": """
            import unittest

            from users import get_user
            from users.greet import greet


            class Users(unittest.TestCase):
                def test_get_user(self):
                    self.assertEqual(get_user("bob"), (2, "bob"))
                    self.assertEqual(greet("eve"), "who are you?")
            """,
        "README.md": """
            `users.get_user(name)` gives number and name, or None; `get_user_id` gives the number,
            and `forget_user` everybody else.
            """,
    },
    """
    import re
    for path, text in files.items():
        assert not re.search(r"\\bget_user\\b", text), path
    package = ["users/__init__.py", "users/store.py", "users/greet.py"]
    for path in [*package, "test_users.py", "README.md"]:
        assert re.search(r"\\bfind_user\\b", files[path]), path
    assert "get_user_id" in files["README.md"] and "forget_user" in files["README.md"]
    """,
    """
    assert call("users:find_user", "bob") == (2, "bob")
    assert call("users:find_user", "eve") is None
    assert call("users.store:get_user_id", "ann") == 1
    assert call("users:forget_user", "ann") == {"bob": 2}
    assert call("users.greet:greet", "ann") == "hello ann"
    """,
    """
    ran, failed, skipped = tests("test_users")
    assert ran and not failed and not skipped
    """,
)
SOURCES = texts(
    {
        "src/main.py": """
            # Copyright 2023 Acme
            from src.text import shout

            OWNER = "Copyright 2023 Acme"


            def main():
                return shout(OWNER)
            """,
        "src/text.py": """
            # Copyright 2023 Acme
            def shout(text):
                return text.upper()
            """,
        "src/data/load.py": """
            # Copyright 2023 Acme
            # Acme keeps its data in lines.
            def load(text):
                return text.splitlines()
            """,
        "src/vendor/left.py": """
            # Copyright 2023 Acme
            # Given to us under the licence beside this file.
            def left(text, width):
                return text.ljust(width)
            """,
        "LICENCE": """
            Copyright 2023 Acme
            """,
    }
)
HEADER = task(
    "replace-header",
    """Every Python file of the folder src begins with the line "# Copyright 2023 Acme". Change that
    line to "# Copyright 2023-2025 Acme Ltd" in each of them, and change nothing else: the files
    below src/vendor belong to others and stay as they are, and so do other mentions of Acme.""",
    SOURCES,
    f"""
    before = {SOURCES!r}
    old, new = "# Copyright 2023 Acme\\n", "# Copyright 2023-2025 Acme Ltd\\n"
    for path in ("src/main.py", "src/text.py", "src/data/load.py"):
        assert files[path] == before[path].replace(old, new, 1), path
    for path in ("src/vendor/left.py", "LICENCE"):
        assert files[path] == before[path], path
    assert call("src.main:main") == "COPYRIGHT 2023 ACME"
    """,
)
SPELLING = task(
    "replace-spelling",
    """The setting "colour" is to be spelt "color": as a key in both JSON files of the folder
    themes, and wherever theme.py reads it. The names of themes and the words in CHANGES.md stay as
    they are. After that, theme.background("dark") is "#111" and theme.background("colourful") is
    "#fa0".""",
    {
        "themes/dark.json": """
            {"name": "dark", "colour": {"background": "#111", "text": "#eee"}}
            """,
        "themes/colourful.json": """
            {"name": "colourful", "colour": {"background": "#fa0", "text": "#000"}}
            """,
        "theme.py": '''
            """Themes from their files."""

            import json


            def read(name):
                with open(f"themes/{name}.json") as file:
                    return json.load(file)


            def background(name):
                return read(name)["colour"]["background"]


            def text(name):
                return read(name)["colour"]["text"]
            ''',
        "CHANGES.md": """
            - 1.1: themes have a colour for their text
            """,
    },
    """
    import json
    for name, background in {"dark": "#111", "colourful": "#fa0"}.items():
        theme = json.loads(files[f"themes/{name}.json"])
        assert theme["name"] == name
        assert "colour" not in theme and theme["color"]["background"] == background
        assert call("theme:background", name) == background
    assert files["CHANGES.md"] == "- 1.1: themes have a colour for their text\\n"
    """,
    """
    assert call("theme:text", "dark") == "#eee"
    assert call("theme:text", "colourful") == "#000"
    """,
)
JOBS = texts(
    {
        "jobs/__init__.py": "",
        "jobs/log.py": """
            LINES = []


            def log(*words):
                LINES.append(" ".join(map(str, words)))
            """,
        "jobs/fetch.py": """
            def fetch(names):
                print("fetching", len(names))
                for name in names:
                    print("fetched", name)
                return sorted(names)
            """,
        "jobs/store.py": """
            def store(names):
                if not names:
                    print("nothing to store")
                blueprint = {name: len(name) for name in names}
                print("stored", len(blueprint))
                return blueprint
            """,
        "jobs/cli.py": """
            from jobs.fetch import fetch
            from jobs.store import store


            def main(names):
                found = store(fetch(names))
                print("done:", len(found))
                return found
            """,
    }
)
LOGGING = task(
    "replace-print",
    """In the modules of the folder jobs, replace every call of print by a call of log from
    jobs/log.py, with the same arguments, and import it there. Only jobs/cli.py goes on with print,
    as its output is for people, and jobs/log.py stays as it is.""",
    JOBS,
    f"""
    import re
    assert files["jobs/log.py"] == {JOBS["jobs/log.py"]!r}
    for path in ("jobs/fetch.py", "jobs/store.py"):
        assert not re.search(r"\\bprint\\b", files[path]), path
        assert "blueprint" in files["jobs/store.py"]
    assert 'print("done:", len(found))' in files["jobs/cli.py"]
    """,
    Check(
        """
    assert call("jobs.cli:main", ["b", "aa"]) == {"aa": 2, "b": 1}
    assert call("jobs.store:store", []) == {}
    assert call("lines:lines") == [
        "fetching 2", "fetched b", "fetched aa", "stored 2", "nothing to store", "stored 0"]
    """,
        {"lines.py": "def lines():\n    from jobs.log import LINES\n    return LINES\n"},
    ),
)
TASKS = (RENAME, HEADER, SPELLING, LOGGING)
