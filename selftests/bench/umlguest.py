# SPDX-License-Identifier: GPL-2.0
"""The User-Mode Linux kernel of "uml": its initramfs, its console, and whose an address is in a profile of it."""
import bisect
import collections
import os
import re
import shutil
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.path.join(TOP, os.environ.get("B") or "build"))
MEMORY = "1G"
TOPMOST = 50        # functions of a profile that are printed
FREQUENCY = 4999    # of samples: no multiple of the guest's clock


def kernel(field):
    done = subprocess.run([f"{TOP}/scripts/kernel", field, "uml"], stdout=subprocess.PIPE, text=True)
    return done.stdout.strip() if done.returncode == 0 else sys.exit(2)


def processor():
    with open("/proc/cpuinfo") as f:
        return next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "?")


def libraries(program):
    """What the loader would take for it."""
    out = subprocess.run(["ldd", program], env=os.environ | {"LD_LIBRARY_PATH": BUILD}, capture_output=True, text=True).stdout
    return sorted(set(re.findall(r"(/\S+) \(0x", out)))


class Symbols:
    """The guest's /proc/kallsyms. A UML kernel lives in its process at the addresses it thinks it has: they are perf's, too."""

    def __init__(self):
        self.all = []

    def add(self, line):
        address, kind, *name = line.split()
        if kind in "tTwW":
            self.all.append((int(address, 16), " ".join(name)))

    def end(self):
        self.all.sort()
        self.addresses = [a for a, _ in self.all]

    def name(self, address, elsewhere):
        """Past the last function of the kernel or of a module it is something else."""
        i = bisect.bisect_right(self.addresses, address) - 1
        if i < 0 or address - self.addresses[i] > 1 << 16:
            return elsewhere
        return self.all[i][1]


class Guest:
    def __init__(self, work):
        self.work, self.process, self.symbols = work, None, Symbols()
        self.image, self.release = kernel("image"), kernel("release")
        if subprocess.run([f"{TOP}/scripts/build-module", "uml"]).returncode:
            sys.exit(2)
        self.build_load()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def build_load(self):
        self.load = f"{self.work}/kload"
        shutil.copytree(f"{HERE}/kload", self.load)
        command = ["make", "-C", kernel("build"), "ARCH=um", "W=1", "KCFLAGS=-Werror", f"M={self.load}", "modules"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"MAKEFLAGS": ""})
        if done.returncode:
            sys.exit(f"uml: the load does not build:\n{done.stdout}")

    def prepare(self, orders, symbols=False):
        """An initramfs of busybox, splicectl, the module, the load and the orders."""
        root = f"{self.work}/root"
        for d in ("bin", "dev", "proc", "sys", "tmp", "lib", "lib64"):
            os.makedirs(f"{root}/{d}")
        program = f"{BUILD}/splicectl"
        for source in (shutil.which("busybox"), program):
            shutil.copy(source, f"{root}/bin")
        for source in (f"{BUILD}/kmod-{self.release}/sksplice.ko", f"{self.load}/kload.ko"):
            shutil.copy(source, root)
        for lib in libraries(program):
            shutil.copy(lib, f"{root}/lib64" if "/ld-linux" in lib else f"{root}/lib")
        shutil.copy(f"{HERE}/uml-init", f"{root}/init")
        with open(f"{root}/orders", "w") as f:
            f.writelines(line + "\n" for line in orders)
        if symbols:
            open(f"{root}/want-symbols", "w").close()
        with open(f"{self.work}/initrd", "wb") as f:
            subprocess.run("find . -mindepth 1 | cpio -o -H newc --quiet -R 0:0", shell=True, check=True, cwd=root, stdout=f)

    def boot(self):
        """On one processor of the host: with the guest's processes on others each switch between them would be a wake-up there."""
        cpu = max(os.sched_getaffinity(0))
        self.process = subprocess.Popen(
            [self.image, f"mem={MEMORY}", "seccomp=on", f"initrd={self.work}/initrd", "con=null", "con0=null,fd:1", "ssl=null",
             "panic=-1", "quiet"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace", start_new_session=True, cwd=self.work,
            preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))

    def lines(self, each):
        """All it says until it is over; its symbols go where they belong."""
        said = []
        for line in self.process.stdout:
            line = line.strip()
            if line.startswith("symbol "):
                self.symbols.add(line[len("symbol "):])
                continue
            if line == "symbols over":
                self.symbols.end()
            if line.startswith("error: "):
                sys.exit(f"uml: {line}")
            if line == "over":
                return said
            if line:
                said.append(line)
                each(line)
        sys.exit("uml: the kernel came to no end; it said:\n" + "\n".join(said[-30:]))


def profile(data, symbols, ns):
    """{function: nanoseconds a message}, where a message takes so many in all."""
    script = subprocess.run(["perf", "script", "-i", data, "-F", "ip"], capture_output=True, text=True, check=True).stdout
    found = collections.Counter()
    for word in script.split():
        ip = int(word, 16)
        found["[host's kernel]" if ip >> 63 else symbols.name(ip, "[library of the host]")] += 1
    return collections.Counter({name: n / found.total() * ns for name, n in found.items()})


def print_profile(direct, kmod, out):
    """What the module costs, function by function, and what there is of them."""
    names = sorted(kmod | direct, key=lambda n: -abs(kmod[n] - direct[n]))
    rows = [("all", sum(kmod.values()), sum(direct.values()))]
    rows.append(("all of the module's own", sum(v for n, v in kmod.items() if n.endswith("[sksplice]")), 0))
    rows += [(n, kmod[n], direct[n]) for n in names[:TOPMOST]]
    print("   more      kmod    direct", file=out)
    for name, k, d in rows:
        print(f"{k - d:+9.1f} {k:9.1f} {d:9.1f}  {name}", file=out)
