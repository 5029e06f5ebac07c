"""Counts what one request costs the worker thread: instructions, system calls and allocations, under callgrind.

Unlike times, these are the same on every run of one binary, so they are checked: more instructions than 3 % above the
recorded number, or any more system calls or allocations, fail.

usage: counts.py MESH_NODE MESH_LOAD [--write] [--keep FOLDER]
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

from peers import HTTP, Ours, Site, eventually, time

RECORDED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "counts.json")
REQUESTS, WARM_UP = 2000, 500
SYSTEM_CALLS = {"read", "write", "readv", "writev", "send", "__send", "recv", "__recv", "epoll_wait", "epoll_ctl", "close",
                "accept4", "connect", "setsockopt", "sendto", "recvfrom", "getsockname"}
ALLOCATIONS = {"malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"}


class Counted(Ours):
    """A node under callgrind, which counts only while it is told to."""

    def start(self):
        # Debug information is removed: this valgrind does not read DWARF 5.
        stripped = self.site.path("mesh-node")
        subprocess.run(["objcopy", "--strip-debug", self.mesh.program, stripped], check=True)
        self.mesh.command("init")
        self.mesh.prefix = lambda node: [
            "valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes",
            f"--callgrind-out-file={self.site.path('callgrind')}"]
        self.mesh.program = stripped
        self.processes = [self.mesh.start_node("n0")]

    def control(self, *arguments):
        subprocess.run(["callgrind_control", *arguments, str(self.processes[0].pid)], check=True, capture_output=True)


class Client:
    """One connection, one request at a time."""

    def __init__(self, address, port):
        self.socket = socket.create_connection((address, port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, count):
        request = b"GET /bytes/64 HTTP/1.1\r\nHost: origin.bench\r\nUser-Agent: counts\r\nAccept: */*\r\n\r\n"
        for _ in range(count):
            self.socket.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer:
                part = self.socket.recv(65536)
                if not part:
                    raise ConnectionError("the node closed the connection")
                answer += part
            head, body = answer.split(b"\r\n\r\n", 1)
            if not head.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(head.splitlines()[0].decode())
            length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
            while len(body) < length:
                body += self.socket.recv(65536)


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


def count(mesh_node, mesh_load, keep):
    directory = tempfile.mkdtemp(prefix="mesh-counts-")
    site = Site(directory, f"127.{random.randint(16, 90)}.{random.randint(0, 254)}", random.randint(20000, 30000))
    origin = subprocess.Popen([mesh_load, "origin", "--listen", f"{site.origin}:{site.origin_port}"], stdout=subprocess.PIPE)
    node = Counted(site, 1, mesh_node)
    try:
        node.start()
        eventually(lambda: is_served(node.address), "the node answers", 90)
        client = Client(node.address, HTTP)
        client.ask(WARM_UP)
        node.control("-i", "on")
        client.ask(REQUESTS)
        node.control("-i", "off")
        node.control("-d")
        eventually(lambda: glob.glob(site.path("callgrind*-*")), "the profile is written", 10)
        time.sleep(1)
        profiles = [read_profile(path) for path in glob.glob(site.path("callgrind*-*"))]
        instructions, calls = max(profiles, key=lambda profile: profile[0])
        if keep:
            for path in glob.glob(site.path("callgrind*-*")):
                shutil.copy(path, keep)
    finally:
        node.stop()
        origin.kill()
        origin.wait()
        shutil.rmtree(directory, ignore_errors=True)

    def each(names):
        total = sum(number for name, number in calls.items() if name.split("@")[0].split("'")[0] in names)
        return round(total / REQUESTS, 2)

    return {"instructions": instructions // REQUESTS, "systemCalls": each(SYSTEM_CALLS), "allocations": each(ALLOCATIONS)}


def is_served(address):
    try:
        Client(address, HTTP).ask(1)
        return True
    except OSError:
        return False


def main():
    arguments = sys.argv[1:]
    keep = arguments[arguments.index("--keep") + 1] if "--keep" in arguments else None
    if not shutil.which("valgrind"):
        print("valgrind is not installed (apt-get install valgrind): nothing is counted")
        return
    found = count(os.path.abspath(arguments[0]), os.path.abspath(arguments[1]), keep)
    if "--write" in arguments:
        with open(RECORDED, "w") as out:
            json.dump({"one plaintext HTTP/1.1 hop": found}, out, indent=2)
            out.write("\n")
    with open(RECORDED) as source:
        recorded = json.load(source)["one plaintext HTTP/1.1 hop"]
    failures = []
    for name, number in found.items():
        limit = recorded[name] * 1.03 if name == "instructions" else recorded[name] + 0.01
        print(f"{name:14} {number:>10} a request (recorded {recorded[name]})")
        if number > limit:
            failures.append(f"{name} rose from {recorded[name]} to {number}")
    if failures:
        sys.exit("; ".join(failures))


if __name__ == "__main__":
    main()
