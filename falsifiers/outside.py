"""What hostile programs try to reach, and whether they did; and a kernel without walls."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

import pytest

from engine.evaluation import sandbox

SECRET = "open-sesame-1729"


@dataclass
class Outside:
    """What programs try to reach, and whether they did."""

    folder: Path
    listeners: tuple[socket.socket, ...]
    victim: subprocess.Popen
    connections: list[str] = field(default_factory=list)
    daemon: str = field(default_factory=lambda: f"daemon-{token_hex(4)}")  # another in each room

    @property
    def names(self) -> dict[str, object]:
        """What stands for what in a program's text."""
        tcp, abstract = self.listeners
        return {
            "PORT": tcp.getsockname()[1],
            "ABSTRACT": abstract.getsockname(),
            "SECRET_VALUE": SECRET,
            "SECRET_FILE": str(self.folder / "secret"),
            "OUTSIDE_FILE": str(self.folder / "written"),
            "VICTIM": self.victim.pid,
            "DAEMON": self.daemon.encode(),
        }

    def signs(self) -> list[str]:
        """What was reached, as far as it shows: connections, files, processes that live on."""
        found = list(self.connections)
        found += [path.name for path in self.folder.iterdir() if path.name != "secret"]
        found += [] if self.victim.poll() is None else ["a process that was killed"]
        return found + outliving(self.daemon)

    def _listen(self, listener: socket.socket) -> None:
        while True:
            try:
                listener.accept()[0].close()
            except OSError:
                return
            self.connections.append(f"a connection to {listener.family.name}")


def outliving(name: str) -> list[str]:
    """Processes that bear the name."""
    found = []
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            found += [str(comm)] * (comm.read_text().strip() == name)
        except OSError:
            pass  # it has ended
    return found


@contextmanager
def outside(folder: Path) -> Iterator[Outside]:
    """Two servers and a folder that anybody may write to, with a secret that anybody may read."""
    (folder / "secret").write_text(SECRET)
    folder.chmod(0o777)
    tcp = socket.create_server(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0candidates-{os.getpid()}")
    abstract.listen()
    made = Outside(folder, (tcp, abstract), subprocess.Popen(["sleep", "60"]))
    threads = [threading.Thread(target=made._listen, args=(s,)) for s in made.listeners]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        made.victim.kill()
        made.victim.wait()
        for listener in made.listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in threads:
            thread.join()


@contextmanager
def without_namespaces() -> Iterator[None]:
    """A kernel that refuses the namespaces' first use, to mount a folder."""
    plan = sandbox.plan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sandbox, "plan", lambda limits, steps: plan(limits, steps) | {"folder_bytes": "-"}
        )
        yield
