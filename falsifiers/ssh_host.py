"""A host to dispatch to: OpenSSH's own server on loopback, started as a private process.

It has its own host key, configuration and authorised key in a folder of its own, and a free port.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVER = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
NAME = "host"
PATIENCE = 30.0  # seconds


@dataclass(frozen=True)
class SshHost:
    """A running server: its process, and the configuration by which `ssh host` reaches it."""

    folder: Path
    process: subprocess.Popen

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def connections(self) -> int:
        """How many were made since it began."""
        return self.log.count("Accepted publickey")

    def cut(self) -> int:
        """Kill whatever serves a connection, but not the server; how many there were."""
        children = below(self.process.pid)
        servers = [pid for pid in children if name_of(pid).startswith("sshd")]  # sshd-session
        for pid in servers:
            kill(pid)
        return len(servers)

    @property
    def sessions(self) -> int:
        """How many processes serve connections, and run for them."""
        return len(below(self.process.pid))

    def end(self) -> None:
        """Kill the server, as where its machine is gone, with whatever serves a connection."""
        children = below(self.process.pid)
        self.process.kill()
        for pid in children:
            kill(pid)


@contextmanager
def ssh_host(**environment: object) -> Iterator[SshHost]:
    """The server, whose sessions have these variables; it has ended when the context has."""
    folder = Path(tempfile.mkdtemp(prefix="sshd-"))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a service makes it
    for name in ("host_key", "own_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name])
    port = free_port()
    own = {"HOME": folder, **environment}  # a home without anybody's settings of a shell
    settings = " ".join(f"{name}={value}" for name, value in own.items())
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/own_key.pub\nStrictModes no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"SetEnv {settings}\n"
    )
    (folder / "ssh_config").write_text(
        f"Host {NAME}\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {folder}/own_key\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known\n"
        "  KexAlgorithms curve25519-sha256\n"
        "  StrictHostKeyChecking accept-new\n  LogLevel ERROR\n"
    )
    with (folder / "log").open("w") as log:
        command = [SERVER, "-D", "-e", "-f", folder / "sshd_config"]
        process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
    try:
        host = SshHost(folder, process)
        assert until(lambda: "Server listening" in host.log)
        yield host
        for pid in below(process.pid):
            kill(pid)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def until(holds: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Whether it holds within that time; asked again and again, as a process tells nobody."""
    end = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(0.01)
    return bool(held)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def below(pid: int) -> list[int]:
    """The processes that a process has begun, and those of theirs."""
    try:
        own = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [each for child in map(int, own) for each in (child, *below(child))]


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        pass
