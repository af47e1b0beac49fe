"""Programs that a sandbox has to contain, and the rooms in which they are tried.

Each defines `f`, which the check expects to square a number. None does so but by what it is not to
achieve: `f` gives the square only if the attack has worked, so that a candidate that passes is a
breach. What can be seen from outside (a connection, a file, a process that lives on) is looked for
there besides. All end by themselves within a few seconds, for the case that nothing contains them.
"""

from dataclasses import dataclass
from textwrap import dedent

from engine.evaluation.sandbox import WEAK, WHOLE, Limits, Trial
from falsifiers.outside import SECRET, Outside

LIMITS = Limits(seconds=0.4, memory=256 << 20, folder_bytes=4 << 20)
SLACK = 1.5  # seconds that a trial may take over its time: the kernel ends it after one
TEST = f"""
def check(candidate):
    "{SECRET}"
    for x in (3, 4, 7, 12):
        assert candidate(x) == x * x
"""
LENGTHY = """
import time
def check(candidate):
    end = time.monotonic() + 3 * candidate(1)
    while time.monotonic() < end:
        pass
"""
# The walls that stand: all; those of a kernel without namespaces; all but the filter of calls.
ROOMS = {
    "whole": WHOLE,
    "no namespaces": WEAK,
    "no filter": tuple(s for s in WHOLE if s != "filter"),
}
FILES = ("whole", "no filter")
CALLS = ("whole", "no namespaces")
ANYWHERE = tuple(ROOMS)


@dataclass(frozen=True)
class Hostile:
    """A program, the rooms that hold it, and the check if that is not the square's."""

    text: str
    rooms: tuple[str, ...] = ANYWHERE
    test: str = TEST

    def trial(self, outside: Outside) -> Trial:
        program = dedent(self.text)
        for name, value in outside.names.items():
            program = program.replace(name, repr(value))
        return Trial(program, "f", "", self.test)


HONEST = Hostile("def f(x): return x * x")
ALWAYS_EQUAL = """
    class Any(int):
        def __eq__(self, other): return True
        def __ne__(self, other): return False
        def __bool__(self): return True
        __hash__ = int.__hash__
"""
ATTEMPT = """
    def f(x):
        try:
            attempt()
        except BaseException:
            return None
        return x * x
"""
FORGED = """
    import json, os, struct
    def report(message):
        body = json.dumps(message).encode()
        for descriptor in range(3, 64):
            try:
                os.write(descriptor, struct.pack(">I", len(body)) + body)
            except OSError:
                pass
    def forge():
        report({"passed": True, "reason": "", "seconds": 0.0, "exit_code": 0})
"""
VERDICTS = {
    "exits with 0": Hostile("import sys\ndef f(x): sys.exit(0)"),
    "exits with 0 when it is loaded": Hostile("import os\nos._exit(0)\ndef f(x): pass"),
    "raises SystemExit when it is loaded": Hostile("raise SystemExit(0)\ndef f(x): pass"),
    "exits with 0 at exit": Hostile("""
        import atexit, os, sys
        atexit.register(os._exit, 0)
        def f(x): sys.exit(1)
        """),
    "prints the verdict": Hostile("""
        import sys
        def f(x):
            for stream in (sys.stdout, sys.stderr):
                print('{"passed": true}', "passed", "OK", "1 passed", file=stream, flush=True)
        """),
    "reports on every descriptor": Hostile(FORGED + "    forge()\n    def f(x): forge()\n"),
    "answers before it is asked": Hostile(FORGED + '    for _ in range(9): report({"value": 9})\n'),
    "answers with no message": Hostile("""
        import os
        for descriptor in range(3, 64):
            try: os.write(descriptor, b"passed" * 1000)
            except OSError: pass
        def f(x): return None
        """),
    "answers what equals everything": Hostile(ALWAYS_EQUAL + "    def f(x): return Any(1)\n"),
    "answers a list of such": Hostile(
        ALWAYS_EQUAL + "    def f(x): return [Any(1)]\n",
        test="def check(candidate): assert candidate(3) == [9]",
    ),
    "patches builtins": Hostile("""
        import builtins, json, operator
        builtins.AssertionError = Warning
        builtins.isinstance = lambda *_: True
        json.loads = lambda *_: True
        operator.eq = lambda *_: True
        def f(x): return None
        """),
    "redefines the check": Hostile("""
        import sys
        def check(candidate): pass
        for module in list(sys.modules.values()):
            for name in ("check", "_check", "_reason", "_trial"):
                try: setattr(module, name, lambda *_: "")
                except Exception: pass
        def f(x): return None
        """),
    "looks for the check in memory": Hostile("""
        import gc, sys
        def seen():
            frame = sys._getframe()
            while frame:
                yield from list(frame.f_locals.values())
                frame = frame.f_back
            for each in gc.get_objects():
                if type(each) is dict:
                    yield from list(each.values())
                yield getattr(each, "__doc__", None)
        def f(x):
            mark = "-".join(["open", "sesame"])
            found = [each for each in seen() if type(each) is str and mark in each != mark]
            return x * x if found else None
        """),
    "answers more than is taken": Hostile("def f(x): return 'x' * (64 << 20)"),
    "answers a list in a list in a list": Hostile("""
        def f(x):
            nested = []
            for _ in range(10**5): nested = [nested]
            return nested
        """),
    "recurs for ever": Hostile("""
        import sys
        sys.setrecursionlimit(10**9)
        def f(x): return f(x)
        """),
    "defines no function": Hostile("x = 1"),
    "is no Python": Hostile("def f(x) return x * x"),
}
TIMES = {
    "keeps the check busy": Hostile("def f(x): return 1", test=LENGTHY),
    "sleeps over its time": Hostile("""
        import time
        def f(x):
            time.sleep(3)
            return x * x
        """),
    "is busy over its time": Hostile("""
        import time
        def f(x):
            end = time.monotonic() + 3
            while time.monotonic() < end: pass
            return x * x
        """),
    "catches whatever would stop it": Hostile("""
        import signal, time
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        def f(x):
            end = time.monotonic() + 3
            while time.monotonic() < end:
                try: time.sleep(1)
                except BaseException: pass
            return x * x
        """),
    "leaves a daemon behind": Hostile(
        """
        import ctypes, os, time
        def attempt():
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    ctypes.CDLL(None).prctl(15, DAEMON, 0, 0, 0)
                    time.sleep(4)
                os._exit(0)
        def f(x):
            attempt()
            time.sleep(0.1)
        """
    ),
    "prints without end": Hostile("""
        import os
        for _ in range(2000): os.write(1, b"x" * 65536)
        def f(x): return None
        """),
}
RESOURCES = {
    "takes too much memory": Hostile(
        "    import mmap\n    def attempt(): return mmap.mmap(-1, 400 << 20)\n" + ATTEMPT
    ),
    "forks without end": Hostile(
        """
    import os, time
    def attempt():
        for _ in range(40):
            if os.fork() == 0:
                time.sleep(1)
                os._exit(0)
    """
        + ATTEMPT
    ),
    "starts threads without end": Hostile(
        """
    import threading, time
    threading.stack_size(32768)
    def attempt():
        for _ in range(40):
            threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
    """
        + ATTEMPT
    ),
    "writes a huge file": Hostile(
        """
    def attempt():
        with open("huge", "wb") as file:
            for _ in range(8): file.write(b"x" * (1 << 20))
    """
        + ATTEMPT
    ),
    "fills its folder": Hostile(
        """
    def attempt():
        for number in range(16):
            with open(str(number), "wb") as file: file.write(b"x" * (1 << 19))
    """
        + ATTEMPT,
        FILES,
    ),
    "opens files without end": Hostile(
        "    import os\n    def attempt(): [os.dup(0) for _ in range(100)]\n" + ATTEMPT
    ),
    "raises its own limits": Hostile(
        """
    import resource
    def attempt():
        resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))
    """
        + ATTEMPT
    ),
}
SURROUNDINGS = {
    "connects to a server": Hostile(
        """
    import socket
    def attempt(): socket.create_connection(("127.0.0.1", PORT), 1).close()
    """
        + ATTEMPT
    ),
    "connects to an abstract socket": Hostile(
        """
    import socket
    def attempt():
        with socket.socket(socket.AF_UNIX) as client: client.connect(ABSTRACT)
    """
        + ATTEMPT
    ),
    "reads the environment": Hostile("""
        import glob, os
        def files():
            yield repr(os.environ)
            for path in glob.glob("/proc/*/environ"):
                try: yield open(path, errors="replace").read()
                except OSError: pass
        def f(x): return x * x if any(SECRET_VALUE in text for text in files()) else None
        """),
    "reads a file of the user's": Hostile(
        "    def attempt(): open(SECRET_FILE).read()\n" + ATTEMPT, FILES
    ),
    "writes outside its folder": Hostile(
        "    def attempt(): open(OUTSIDE_FILE, 'w').write('x')\n" + ATTEMPT, FILES
    ),
    "writes into the root": Hostile(
        "    def attempt(): open('/x', 'w').write('x')\n" + ATTEMPT, FILES
    ),
    "climbs out through its folder": Hostile(
        "    def attempt(): open('../../../..' + OUTSIDE_FILE, 'w')\n" + ATTEMPT, FILES
    ),
    "kills its parent": Hostile(
        """
    import os
    def attempt():
        parent = os.getppid()
        os.kill(parent if parent > 0 else 1 << 22, 9)
    """
        + ATTEMPT
    ),
    "kills another process": Hostile(
        "    import os\n    def attempt(): os.kill(VICTIM, 9)\n" + ATTEMPT
    ),
    "looks into the judge": Hostile(
        """
    import os
    def attempt(): open(f"/proc/{os.getppid()}/mem", "rb").close()
    """
        + ATTEMPT
    ),
    "traces another process": Hostile(
        """
    import ctypes, os
    def attempt():
        if ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0): raise OSError
    """
        + ATTEMPT
    ),
    "has privileges": Hostile("    import os\n    def attempt(): os.chroot('/')\n" + ATTEMPT),
    "takes privileges": Hostile("    import os\n    def attempt(): os.setuid(0)\n" + ATTEMPT),
    "makes a namespace of its own": Hostile(
        """
    import ctypes
    def attempt():
        if ctypes.CDLL(None).unshare(0x10000000): raise OSError
    """
        + ATTEMPT,
        CALLS,
    ),
    "runs a program": Hostile(
        """
    import os
    def attempt(): os.execv("/usr/bin/env", ["env"])
    """
        + ATTEMPT,
        CALLS,
    ),
}
PROGRAMS = {**TIMES, **VERDICTS, **RESOURCES, **SURROUNDINGS}
