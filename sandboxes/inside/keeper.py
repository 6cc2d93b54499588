"""The sandbox's first process. It outlives episodes and holds no state of any.

It receives the settings, gives up the commands' user, and from then on has one thread and one task: for each
episode it forks a *server* (`inside.server`), which alone reads the channel while it lives. So no memory of a
server can reach the next one. When the server retires, the keeper scrubs the sandbox (`inside.scrubbing`),
reports whether every trace is gone, and waits for the order to begin again. Any other end of a server ends
the keeper, and with it the sandbox.

Where commands run under the same user as this program, blankness cannot be proven; the keeper then serves a
single episode itself.
"""

from __future__ import annotations

import gc
import json
import os
import signal

from .commands import PREFIX
from .files import WORKDIR
from .forking import Template
from .frames import receive, send
from .identity import PR_SET_CHILD_SUBREAPER, Identity, prctl
from .limits import LIMITS, limit_resources
from .scrubbing import Scrubbing
from .search import PROGRAM, search_child
from .server import RETIRED, serve


def prepare(request):
    """Set up the sandbox: become its init, give up the commands' user. Returns users and template."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    os.closerange(3, 1024)  # left open by the parent; commands would inherit it
    user, group = request["user"]
    for folder in request["owned"]:
        os.chown(folder, user, group)
    if not request["user_namespaces"]:
        with open("/proc/sys/user/max_user_namespaces", "w") as file:
            file.write("0")
    limit_resources(request["open_files"], request["processes"])
    if request["memory"]:  # no cgroup bounds it: so much for each process of a command
        PREFIX.extend(["sh", "-c", 'ulimit -v "$0" && exec "$@"', str(request["memory"] >> 10)])
    LIMITS.begin([request["workdir"], "/tmp", "/dev/shm"], request["pids"])
    identity, template = Identity(user, group, request["server_user"]), None
    if request["template"] and identity.server is not None:
        template = start_template(request, group)
    identity.take()
    signal.signal(signal.SIGINT, lambda *_: None)  # nothing else reaches a first process without a handler
    os.chdir("/")
    WORKDIR[0] = request["workdir"]
    return identity, template


def start_template(request, group):
    text = dict(json.loads(PROGRAM["text"][4:]))["template"].encode()
    users = (request["template_user"], group)
    return Template(request["template"], users, request["workdir"], memory=request["memory"], text=text)


class Keeper:
    """Runs one server per episode. `kept` are processes that outlive an episode together with the keeper."""

    def __init__(self, identity, template, lease_s):
        self.identity = identity
        self.template = template
        self.lease_s = lease_s
        self.kept = {template.pid} if template else set()
        self.scrubbing = Scrubbing(identity)
        import tarfile  # noqa: F401 (servers import it when they need it; here once for all of them)

        gc.freeze()  # or each collection in a server would copy the memory it shares with this process
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))

    def run(self, request):
        """Run episodes one after another, beginning with `request`. Returns when the sandbox should end."""
        while request is not None and self.episode(request):
            request = self.expect("scrub")
            if request is None:
                return
            trace = self.template.settle(request["timeout_s"]) if self.template else ""
            trace = trace or self.scrubbing.trace(self.kept, request["timeout_s"])
            send({"id": request["id"], "trace": trace}, [])
            request = None if trace else self.expect("begin")

    def episode(self, request):
        """Fork a server and wait until it retires; return False when it ended in any other way."""
        ours = os.getpid()
        server = os.fork()
        if server == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            try:
                request["lease_s"] = self.lease_s
                if self.template:
                    self.template.control.close()
                serve(self.identity, request, keeper=ours, kept=self.kept, template=self.template)
            finally:
                os._exit(1)
        if self.template:
            self.template.line.close()
        while True:
            pid, status = os.waitpid(-1, 0)  # orphans are reaped
            self.kept.discard(pid)
            if pid == server:
                return os.WIFEXITED(status) and os.WEXITSTATUS(status) == RETIRED

    def expect(self, operation):
        """Return the next request if it is the expected one and comes within the lease; else None."""
        signal.setitimer(signal.ITIMER_REAL, self.lease_s)
        while True:
            frame = receive()
            if frame is None or frame[0]["op"] != "renew":
                break
        signal.setitimer(signal.ITIMER_REAL, 0)
        return frame[0] if frame is not None and frame[0]["op"] == operation else None


def main(program, arguments):
    """Serve until the channel ends; with arguments, run as the child process of one search instead."""
    if arguments:
        search_child(json.loads(arguments[0]), arguments[1])
        return
    frame = receive()
    if frame is None:
        return
    request = frame[0]
    PROGRAM.update(bootstrap=request["bootstrap"], text=program)
    identity, template = prepare(request)
    if identity.server is None:
        serve(identity, request)
    else:
        Keeper(identity, template, request["lease_s"]).run(request)
    os._exit(0)
