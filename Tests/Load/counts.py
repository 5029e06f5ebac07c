"""Counts what one request costs the worker threads: instructions, system calls and allocations, under callgrind.

Unlike times, these are the same on every run of one binary, so they are checked: more instructions than 3 % above the
recorded number, or more system calls or allocations, fail.

usage: counts.py MESH_NODE MESH_LOAD [--write] [--keep FOLDER] [--only NAME]
"""

import glob
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile

from peers import HTTP, Ours, OursTwoHops, Site, eventually, time

RECORDED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "counts.json")
SYSTEM_CALLS = {"read", "write", "readv", "writev", "send", "__send", "recv", "__recv", "epoll_wait", "epoll_ctl", "close",
                "accept4", "connect", "setsockopt", "sendto", "recvfrom", "getsockname"}
ALLOCATIONS = {"malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"}


class Counted:
    """A peer whose nodes run under callgrind, which counts only while it is told to."""

    def start(self):
        # Debug information is removed: this valgrind does not read DWARF 5.
        plain, stripped = self.mesh.program, self.site.path("mesh-node")
        subprocess.run(["objcopy", "--strip-debug", plain, stripped], check=True)
        self.mesh.prefix = lambda node: [
            "valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes",
            f"--callgrind-out-file={self.site.path('callgrind.%p')}"]
        self.mesh.program = stripped
        nodes = self.mesh.addresses
        self.mesh.command("init", node=next(iter(nodes)))
        self.processes = [self.mesh.start_node(name) for name in nodes]
        self.mesh.program, self.mesh.prefix = plain, lambda node: []

    def control(self, *arguments):
        for process in self.processes:
            subprocess.run(["callgrind_control", *arguments, str(process.pid)], check=True, capture_output=True)


class CountedOneHop(Counted, Ours):
    connections, host = 1, "origin.bench"
    warm_up, rounds = 500, 2000

    def entry(self):
        return self.address, HTTP


class CountedTwoHops(Counted, OursTwoHops):
    """Thirty-two clients at once, so that frames and TLS records share system calls as they do under load."""

    connections, host = 32, "echo:9080"
    warm_up, rounds = 20, 80

    def start(self):
        super().start()
        eventually(lambda: all(self.mesh.is_ready(name) for name in self.mesh.addresses), "the nodes are ready", 120)
        self.run_workloads()

    def entry(self):
        return self.target("mesh")


class Clients:
    """So many connections; each asks once a round, and all have their answer before the next."""

    def __init__(self, address, port, connections, host):
        self.request = (f"GET /bytes/64 HTTP/1.1\r\nHost: {host}\r\nUser-Agent: counts\r\nAccept: */*\r\n\r\n").encode()
        self.sockets = [socket.create_connection((address, port), 10) for _ in range(connections)]
        for one in self.sockets:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, rounds):
        for _ in range(rounds):
            for one in self.sockets:
                one.sendall(self.request)
            for one in self.sockets:
                self.read_answer(one)

    @staticmethod
    def read_answer(one):
        answer = b""
        while b"\r\n\r\n" not in answer:
            part = one.recv(65536)
            if not part:
                raise ConnectionError("the node closed the connection")
            answer += part
        head, body = answer.split(b"\r\n\r\n", 1)
        if not head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(head.splitlines()[0].decode())
        length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
        while len(body) < length:
            body += one.recv(65536)

    def close(self):
        for one in self.sockets:
            one.close()


def read_profile(path):
    """Instructions of one thread, and calls of functions by name."""
    instructions, calls, names, callee = 0, {}, {}, ""
    with open(path, errors="replace") as lines:
        for line in lines:
            if line.startswith("totals:"):
                instructions = int(line.split()[1])
            elif line.startswith(("fn=", "cfn=")):
                number, name = re.match(r"c?fn=\((\d+)\)(?: (.*))?", line).groups()
                if name:
                    names[number] = name.strip()
                if line.startswith("cfn="):
                    callee = names.get(number, "")
            elif line.startswith("calls="):
                calls[callee] = calls.get(callee, 0) + int(line[6:].split()[0])
    return instructions, calls


def count(kind, mesh_node, mesh_load, keep):
    directory = tempfile.mkdtemp(prefix="mesh-counts-")
    site = Site(directory, f"127.{random.randint(16, 90)}.{random.randint(0, 254)}", random.randint(20000, 30000))
    origin = subprocess.Popen([mesh_load, "origin", "--listen", f"{site.origin}:{site.origin_port}"], stdout=subprocess.PIPE)
    peer = kind(site, 1, mesh_node)
    try:
        peer.start()
        eventually(lambda: is_served(peer), "the node answers", 120)
        clients = Clients(*peer.entry(), peer.connections, peer.host)
        clients.ask(peer.warm_up)
        peer.control("-i", "on")
        clients.ask(peer.rounds)
        peer.control("-i", "off")
        peer.control("-d")
        eventually(lambda: len(glob.glob(site.path("callgrind.*-*"))) >= len(peer.processes), "the profile is written", 20)
        time.sleep(1)
        busiest = [max((read_profile(path) for path in glob.glob(site.path(f"callgrind.{process.pid}*-*"))), key=lambda one: one[0])
                   for process in peer.processes]
        if keep:
            for path in glob.glob(site.path("callgrind.*-*")):
                shutil.copy(path, keep)
        clients.close()
    finally:
        peer.stop()
        origin.kill()
        origin.wait()
        shutil.rmtree(directory, ignore_errors=True)

    requests = peer.rounds * peer.connections

    def each(names):
        total = sum(number for _, calls in busiest for name, number in calls.items()
                    if name.split("@")[0].split("'")[0] in names)
        return round(total / requests, 2)

    return {"instructions": sum(instructions for instructions, _ in busiest) // requests, "systemCalls": each(SYSTEM_CALLS),
            "allocations": each(ALLOCATIONS)}


def is_served(peer):
    try:
        clients = Clients(*peer.entry(), 1, peer.host)
        clients.ask(1)
        clients.close()
        return True
    except OSError:
        return False


WORK = {"one plaintext HTTP/1.1 hop": CountedOneHop, "two hops with mTLS, 32 at once": CountedTwoHops}
# How many system calls a batch shares depends a little on how the nodes' turns meet.
TOLERANCE = {"instructions": (1.03, 0), "systemCalls": (1.05, 0.01), "allocations": (1, 0.05)}


def main():
    arguments = sys.argv[1:]

    def option(name):
        return arguments[arguments.index(name) + 1] if name in arguments else None

    if not shutil.which("valgrind"):
        print("valgrind is not installed (apt-get install valgrind): nothing is counted")
        return
    with open(RECORDED) as source:
        recorded = json.load(source)
    failures = []
    for work, kind in WORK.items():
        if option("--only") and option("--only") not in work:
            continue
        found = count(kind, os.path.abspath(arguments[0]), os.path.abspath(arguments[1]), option("--keep"))
        before = recorded.get(work)
        print(work)
        for name, number in found.items():
            print(f"  {name:14} {number:>10} a request" + (f" (recorded {before[name]})" if before else ""))
            factor, more = TOLERANCE[name]
            if before and number > before[name] * factor + more:
                failures.append(f"{work}: {name} rose from {before[name]} to {number}")
        recorded[work] = found
    if "--write" in arguments:
        with open(RECORDED, "w") as out:
            json.dump(recorded, out, indent=2)
            out.write("\n")
    elif failures:
        sys.exit("; ".join(failures))


if __name__ == "__main__":
    main()
