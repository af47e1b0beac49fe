"""Planted faults in `tollens status --watch` that contracts/tollens-status-v1.yaml must notice."""

import gc
from contextlib import contextmanager
from dataclasses import replace


def watch_sees_no_sources(plant):
    """A change of a test or of the code under test is not looked for."""

    def fault(view):
        def faulty(*args):
            found = view(*args)
            kept = (path for path in found.paths if "falsifiers" not in str(path))
            return replace(found, paths=frozenset(kept))

        return faulty

    plant("tollens.cli_status._view", fault)


def watch_sees_no_saboteurs(plant):
    """Of the folder of tests, what lies in folders below it is not looked for."""
    plant(
        "tollens.cli_status._below",
        lambda below: lambda project: {p for p in below(project) if "saboteurs" not in p.parts},
    )


def watch_forgets_after_an_error(plant):
    """After an error, what the view before it rested on is not looked for any more."""
    plant("tollens.cli_status._view", lambda view: lambda *args: view(*args[:2], frozenset()))


def watch_never_collects(plant):
    """What is not reachable any more stays in memory, however long it watches."""

    def fault(watch):
        def faulty(*args):
            gc.disable()
            return watch(*args)

        return faulty

    plant("tollens.cli_status.watch", fault)


def watch_always_draws(plant):
    """It draws at every look, whether anything changed or not."""
    count = iter(range(10**9))
    plant("tollens.watching._times", lambda times: lambda paths: dict.fromkeys(paths, next(count)))


def watch_ends_with_zero(plant):
    """Ctrl-C ends it with 0, whatever was last shown."""
    plant("tollens.cli_status._code", lambda code: lambda standings: 0)


def watch_mute_of_errors(plant):
    """A contract that is not valid for a moment is not told of."""

    def fault(view):
        def faulty(*args):
            found = view(*args)
            return found if "contract(s)" in found.lines[0] else replace(found, lines=["wait"])

        return faulty

    plant("tollens.cli_status._view", fault)


def watch_clears_the_screen(plant):
    """Each state is drawn on a cleared screen."""

    def fault(screen):
        @contextmanager
        def clearing():
            with screen() as draw:
                yield lambda lines: (print("\x1b[2J\x1b[H", end="", flush=True), draw(lines))

        return clearing

    plant("tollens.watching._screen", fault)


def watch_crops_in_silence(plant):
    """What a screen cannot hold is left out without a word."""
    plant("tollens.watching.fitted", lambda fitted: lambda lines, height: lines[:height])


def watch_sees_no_folders(plant):
    """What comes and goes in folders below the contracts' is not looked for."""
    plant(
        "tollens.cli_status._below",
        lambda below: lambda project: {p for p in below(project) if "more" not in p.parts},
    )


def watch_digests_twice(plant):
    """What a contract's evidence has to be of is found out again, whenever it is asked for."""

    def fault(today):
        def faulty(inspection, loaded):
            inspection._today.clear()
            return today(inspection, loaded)

        return faulty

    plant("tollens.inspection.Inspection.today", fault)
