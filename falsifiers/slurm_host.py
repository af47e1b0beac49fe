"""A Slurm of one node, which is this machine: its own daemons in a folder of its own."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from falsifiers.ssh_host import free_port, until

SETTINGS = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/socket/munge
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/node.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def slurm_host() -> Iterator[Path]:
    """The configuration of one that takes jobs; AssertionError where it does not start."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    for name in ("socket", "state", "spool"):
        (folder / name).mkdir()
    key = folder / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    config = folder / "slurm.conf"
    ports = {"controller": free_port(), "node": free_port()}
    names = {"host": socket.gethostname().partition(".")[0], "cores": os.cpu_count()}
    config.write_text(SETTINGS.format(folder=folder, **ports, **names))
    environment = {**os.environ, "SLURM_CONF": str(config)}
    munge = ["munged", "--force", "--foreground", f"--key-file={key}"]
    munge += [f"--socket={folder}/socket/munge", f"--pid-file={folder}/socket/pid"]
    munge += [f"--log-file={folder}/socket/log", f"--seed-file={folder}/socket/seed"]
    running: list[subprocess.Popen] = []
    with (folder / "log").open("w") as log:

        def begin(command: list[str]) -> None:
            running.append(
                subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            )

        try:
            begin(munge)
            assert until((folder / "socket/munge").exists)
            begin(["slurmctld", "-D", "-i"])
            begin(["slurmd", "-D"])
            assert until(lambda: "idle" in told(["sinfo", "-h", "-o", "%T"], environment))
            yield config
            told(["scancel", "--user=root"], environment)
        finally:
            for each in reversed(running):
                each.terminate()
            for each in running:
                each.wait()
            shutil.rmtree(folder, ignore_errors=True)


def told(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout
