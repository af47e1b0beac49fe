"""Tasks of the kind `command`: a program has to be run, and what it makes has to be there.

The expected outcomes are computed by the check, from the files that the student was given.
"""

from engine.agent.task import task

WORDS = """
    delta amber sigma quartz amber ivory basalt cobalt sigma umber flint jasper cobalt garnet
    topaz ochre delta indigo marble slate amber opal ruby zircon basalt pumice coral sepia
    """.split()
BUILD = task(
    "command-build",
    """Run build.py so that it writes table.csv for the region "north", and leave that file in the
    folder. The program says how it wants to be called.""",
    {
        "build.py": '''
            """Writes table.csv: every item of a region with its check."""

            import hashlib
            import json
            import sys

            if len(sys.argv) != 3 or sys.argv[1] != "--region":
                sys.exit("usage: python build.py --region NAME")
            items = json.load(open("items.json"))
            with open("table.csv", "w") as table:
                for item in items:
                    if item["region"] == sys.argv[2]:
                        text = f"{item['name']}/{item['price']}"
                        check = hashlib.sha256(text.encode()).hexdigest()[:12]
                        print(item["name"], item["price"], check, sep=",", file=table)
            ''',
        "items.json": """
            [{"name": "rope", "price": 12, "region": "north"},
             {"name": "sail", "price": 310, "region": "south"},
             {"name": "anchor", "price": 95, "region": "north"},
             {"name": "oar", "price": 40, "region": "west"},
             {"name": "lamp", "price": 23, "region": "north"}]
            """,
    },
    """
    import hashlib
    rows = [("rope", 12), ("anchor", 95), ("lamp", 23)]
    checks = [hashlib.sha256(f"{name}/{price}".encode()).hexdigest()[:12] for name, price in rows]
    lines = [f"{name},{price},{check}" for (name, price), check in zip(rows, checks)]
    assert files["table.csv"].splitlines() == lines
    """,
)
SORT = task(
    "command-sort",
    """words.txt has a word in each line, some of them several times. Make a file sorted.txt that
    has each of them once, in alphabetical order, one in a line. A command does that at once.""",
    {"words.txt": "\n".join(WORDS) + "\n"},
    f"""
    assert files["sorted.txt"].split("\\n") == sorted(set({WORDS!r})) + [""]
    """,
)
MIGRATE = task(
    "command-migrate",
    """data.json is of version 1. Run migrate.py, which raises the version by one each time, until
    it says that the data are up to date. Do not edit data.json by hand.""",
    {
        "migrate.py": '''
            """Raises data.json by one version."""

            import hashlib
            import json

            data = json.load(open("data.json"))
            if data["version"] == 4:
                print("up to date")
            else:
                data["version"] += 1
                text = f"{data['version']}{data['seal']}"
                data["seal"] = hashlib.sha256(text.encode()).hexdigest()[:16]
                data["rows"] = [row * 2 for row in data["rows"]]
                json.dump(data, open("data.json", "w"))
                print("now of version", data["version"])
            ''',
        "data.json": """
            {"version": 1, "seal": "first", "rows": [3, 5, 8]}
            """,
    },
    """
    import hashlib, json
    seal = "first"
    for version in (2, 3, 4):
        seal = hashlib.sha256(f"{version}{seal}".encode()).hexdigest()[:16]
    assert json.loads(files["data.json"]) == {"version": 4, "seal": seal, "rows": [24, 40, 64]}
    """,
)
ANSWER = task(
    "command-answer",
    """Run the program walk.py with the number 1729, and write the last line of its output, and
    nothing else, to the file answer.txt.""",
    {
        "walk.py": '''
            """Walks from a number to 1, and prints where it comes by."""

            import hashlib
            import sys

            number, trace = int(sys.argv[1]), hashlib.sha256()
            while number != 1:
                print(number)
                trace.update(str(number).encode())
                number = number // 2 if number % 2 == 0 else 3 * number + 1
            print("the walk's name is", trace.hexdigest()[:10])
            ''',
    },
    """
    import hashlib
    number, trace = 1729, hashlib.sha256()
    while number != 1:
        trace.update(str(number).encode())
        number = number // 2 if number % 2 == 0 else 3 * number + 1
    assert files["answer.txt"].strip() == "the walk's name is " + trace.hexdigest()[:10]
    """,
)
TASKS = (BUILD, SORT, MIGRATE, ANSWER)
