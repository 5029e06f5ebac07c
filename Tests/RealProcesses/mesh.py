"""A cluster of mesh-node processes on loopback addresses of its own, for tests with real clients."""

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time


class Mesh:
    """Starts nodes and workloads, and ends exactly those processes."""

    def __init__(self, program, nodes=2, gateways=("n1",), start_options=(), network=None):
        """`network` is the first three numbers of the nodes' addresses, where those are not loopback."""
        self.program = os.path.abspath(program)
        self.directory = tempfile.mkdtemp(prefix="mesh-processes-")
        network = network or f"127.{random.randint(16, 250)}.{random.randint(0, 254)}"
        self.addresses = {f"n{i}": f"{network}.{i}" for i in range(1, nodes + 1)}
        self.processes = {}
        self.start_options = list(start_options)
        os.mkdir(f"{self.directory}/seed")
        file = {
            "cluster": "clients",
            "config": ["seed"],
            "nodes": [
                {"name": name, "address": address, "locality": f"local/{name}", "gateway": name in gateways}
                for name, address in self.addresses.items()
            ],
        }
        with open(self.cluster_file, "w") as out:
            json.dump(file, out)

    @property
    def cluster_file(self):
        return f"{self.directory}/cluster.json"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(list(self.processes.values())):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 20
        for process in self.processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def write_config(self, name, text):
        with open(f"{self.directory}/seed/{name}", "w") as out:
            out.write(text)

    def spawn(self, name, arguments, **options):
        log = open(f"{self.directory}/{name}.log", "ab")
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, **options)
        self.processes[name] = process
        return process

    def command(self, *arguments, node="n1", timeout=30, check=True):
        done = subprocess.run(
            [self.program, *arguments, "--config", self.cluster_file, "--node", node],
            cwd=self.directory, capture_output=True, text=True, timeout=timeout,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"mesh-node {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def prefix(self, node):
        """What stands before each command of a node, to run it somewhere else."""
        return []

    def start_node(self, name):
        arguments = [self.program, "start", "--config", self.cluster_file, "--node", name, *self.start_options]
        return self.spawn(name, [*self.prefix(name), *arguments])

    def start(self):
        self.command("init")
        for name in self.addresses:
            self.start_node(name)
        eventually(lambda: all(self.is_ready(name) for name in self.addresses), "nodes are ready", 120)

    def is_ready(self, node):
        try:
            status = json.loads(self.command("status", "-o", "json", node=node))
        except Exception:
            return False
        return bool(status.get("isReady", status.get("ready")))

    def run(self, service, port, command, node="n2", options=()):
        """Starts COMMAND as a workload of the mesh; returns the process of `mesh-node run`."""
        return self.spawn(
            f"run-{service}-{node}",
            [*self.prefix(node), self.program, "run", "--config", self.cluster_file, "--node", node, "--service", service, "--port", str(port),
             *options, *(["--", *command] if command else [])],
        )

    def resident_bytes(self, node):
        with open(f"/proc/{self.processes[node].pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        return 0

    def log(self, name, lines=20):
        """The end of a node's log without the access log, and how many of those lines there were by status and flags."""
        kept, counts = [], {}
        with open(f"{self.directory}/{name}.log", errors="replace") as log:
            for line in log:
                if line.startswith("[") and '" ' in line:
                    key = " ".join(line.split('" ', 1)[1].split()[:3])
                    counts[key] = counts.get(key, 0) + 1
                else:
                    kept.append(line)
        table = "".join(f"  {count:8} {key}\n" for key, count in sorted(counts.items()))
        return f"---- {name}\n{''.join(kept[-lines:])}requests:\n{table}"


def eventually(condition, what, seconds=30):
    """Polls until the condition holds; the bound only ends a test that would never pass."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise TimeoutError(f"not within {seconds} s: {what}")
