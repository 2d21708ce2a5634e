# SPDX-License-Identifier: GPL-2.0
"""The relays that are compared: how each is started, placed and stopped."""
import os
import resource
import signal
import subprocess
import time

from cgroup import Cgroup

START_S = 5
STOP_S = 0.5


def nofile():
    """Descriptors a process may have; all of them from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def splicectl(r):
    command = [r.build + "/splicectl", "relay", "--engine", r.name, "--quiet", "--to", r.target]
    for address in r.listen:
        command += ["--listen", address]
    return command


def local(r):
    """The engine sockmap, in local mode, or past the relay: for the load generator only, which runs in the cgroup."""
    r.cgroup = Cgroup()
    command = [r.build + "/splicectl", "relay", "--engine", "sockmap", "--cgroup", r.cgroup.path, "--quiet", "--to", r.target]
    if r.name == "bypass":
        command.append("--bypass")
    for address in r.listen:
        command += ["--listen", address]
    return command


def handmade(r):
    return [r.build + "/bench/relay", r.name, ",".join(r.listen), r.target]


def haproxy(r):
    """One thread, as the others have; splicing where HAProxy thinks it right; no log, no limit that is reached."""
    connections = min(9500, (nofile() - 600) // 2)
    binds = "\n".join(f"  bind {a} backlog 4096" for a in r.listen)
    config = r.write("haproxy.cfg", f"""\
global
  maxconn {connections}
  maxpipes 100
  nbthread 1
defaults
  mode tcp
  option splice-auto
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen l
{binds}
  server s {r.target}
""")
    return ["haproxy", "-db", "-q", "-f", config]


def nginx(r):
    """One worker. As it comes, nginx ends both ways when one side ends; nginx-half waits for the other, as all others do."""
    half = "proxy_half_close on;" if r.name == "nginx-half" else ""
    listens = "\n".join(f"listen {a} backlog=4096;" for a in r.listen)
    limit = nofile()
    config = r.write("nginx.conf", f"""\
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
{"user root;" if os.geteuid() == 0 else ""}
worker_processes 1;
worker_rlimit_nofile {limit};
pid {r.dir}/nginx.pid;
error_log {r.dir}/error.log;
daemon off;
events {{ worker_connections {limit - 200}; }}
stream {{
  server {{
    {listens}
    proxy_pass {r.target};
    proxy_timeout 1h;
    {half}
  }}
}}
""")
    return ["nginx", "-e", r.dir + "/error.log", "-c", config]


def socat(r):
    address, port = r.listen[0].split(":")
    return ["socat", "-b", "65536", "-t", "10",
            f"TCP-LISTEN:{port},bind={address},fork,reuseaddr,backlog=4096,nodelay", f"TCP:{r.target},nodelay"]


COMMANDS = {"direct": None, "user": splicectl, "kmod": splicectl, "local": local, "bypass": local, "splice": handmade, "copy": handmade, "uring": handmade,
            "sockmap": handmade, "haproxy": haproxy, "nginx": nginx, "nginx-half": nginx, "socat": socat}
DEFAULT = ["direct", "user", "splice", "copy", "haproxy", "nginx", "socat"]
# A process for each connection: as many as the machine is happy with.
PAIRS = {"socat": 300}


def listening():
    """Addresses of this machine that somebody listens on."""
    found = set()
    with open("/proc/net/tcp") as f:
        for line in f.readlines()[1:]:
            field = line.split()
            if field[3] == "0A":
                host, port = field[1].split(":")
                found.add("%s:%d" % (".".join(str(b) for b in reversed(bytes.fromhex(host))), int(port, 16)))
    return found


def tree(root):
    """The process and its descendants."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as f:
                parents[int(name)] = int(f.read().rpartition(")")[2].split()[1])
        except OSError:
            pass
    found, size = {root}, 0
    while len(found) != size:
        size = len(found)
        found |= {p for p, parent in parents.items() if parent in found}
    return found


class Relay:
    def __init__(self, name, base, build, work, addresses):
        self.name, self.build, self.process, self.cgroup = name, build, None, None
        self.dir = f"{work}/{name}"
        os.makedirs(self.dir, exist_ok=True)
        count = 1 if name == "socat" else addresses
        self.servers = [f"127.0.0.{i + 1}:{base}" for i in range(count)]
        self.target = self.servers[0]
        self.listen = self.servers if name == "direct" else [f"127.0.0.{i + 1}:{base + 1}" for i in range(count)]
        # a relay goes to the one; only without it the client goes to all
        if name != "direct":
            self.servers = self.servers[:1]

    def write(self, name, text):
        path = f"{self.dir}/{name}"
        with open(path, "w") as f:
            f.write(text)
        return path

    def last_words(self):
        try:
            with open(self.dir + "/log") as f:
                lines = f.read().split("\n")
            return next((line for line in lines if line.strip()), "no message")
        except OSError:
            return "no message"

    def start(self):
        """None, or why it does not run."""
        command = COMMANDS[self.name]
        if not command:
            return None
        try:
            with open(self.dir + "/log", "w") as log:
                self.process = subprocess.Popen(command(self), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                process_group=0)  # one session: the scheduler would give each session its own share
        except OSError as error:
            return f"cannot start: {error.strerror}"
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                return f"does not start: {self.last_words()}"
            if listening().issuperset(self.listen):
                return None
            time.sleep(0.01)
        return "does not listen"

    def pid(self):
        return self.process.pid if self.process else 0

    def cpu(self):
        """Seconds on a processor, with descendants there are and were."""
        ticks = 0
        for pid in tree(self.process.pid) if self.process else ():
            try:
                with open(f"/proc/{pid}/stat") as f:
                    ticks += sum(int(x) for x in f.read().rpartition(")")[2].split()[11:15])
            except OSError:
                pass
        return ticks / os.sysconf("SC_CLK_TCK")

    def place(self, cpus):
        if not self.process:
            return
        for pid in tree(self.process.pid):
            try:
                for task in os.listdir(f"/proc/{pid}/task"):
                    os.sched_setaffinity(int(task), cpus)
            except OSError:
                pass

    def signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def end(self):
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            pass
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Asked first, so that a master can wait for its workers; with connections left some would take their time."""
        if self.process:
            self.end()
            self.process = None
        if self.cgroup:
            self.cgroup.remove()
            self.cgroup = None
