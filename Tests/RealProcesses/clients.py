#!/usr/bin/env python3
"""Real clients through two hops of the mesh: curl, h2load, wrk, grpcio, websockets; nginx and Python servers as applications.

usage: clients.py MESH_NODE [--only NAME] [--large BYTES] [--calls N]

A client speaks to the gateway of n1; the applications stand behind n2; between the nodes is mTLS. Every check looks at what
arrived, not only at statuses. Needs curl, nginx, h2load and wrk (Debian: curl nginx nghttp2-client wrk) and Python's grpcio and
websockets; a check whose client is missing is skipped and says so. Exits 1 when a check fails.
"""

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time

from mesh import Mesh, eventually

HERE = os.path.dirname(os.path.abspath(__file__))
GATEWAY_PORT = 8080
BANNER_PORT = 8090
SERVICES = {"web": (9001, "http"), "echo": (9002, "http"), "grpc": (9003, "grpc"), "websocket": (9004, "http"), "banner": (9005, "tcp")}


class Skip(Exception):
    """The check cannot run here; the text says why."""


class Failure(Exception):
    """What was seen is not what should be."""


def expect(condition, what):
    if not condition:
        raise Failure(what)


def need(program):
    if not shutil.which(program):
        raise Skip(f"{program} is not installed")


def configuration():
    parts = [
        f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: entrance}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {GATEWAY_PORT}, name: http, protocol: HTTP}}
    hosts: ["*.test"]
  - port: {{number: {BANNER_PORT}, name: tcp-banner, protocol: TCP}}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: banner}}
spec:
  hosts: ["*"]
  gateways: [entrance]
  tcp:
  - match: [{{port: {BANNER_PORT}}}]
    route: [{{destination: {{host: banner, port: {{number: {SERVICES["banner"][0]}}}}}}}]
"""
    ]
    for name, (port, protocol) in SERVICES.items():
        parts.append(
            f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{port: {port}, name: {protocol}}}]
"""
        )
        if protocol != "tcp":
            parts.append(
                f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{name}.test]
  gateways: [entrance]
  http: [{{route: [{{destination: {{host: {name}, port: {{number: {port}}}}}}}]}}]
"""
            )
    return "---".join(parts)


NGINX = """
daemon off; worker_processes 1; pid {d}/nginx.pid; error_log {d}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {d}/body; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f; uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;
  keepalive_requests 1000000; sendfile on;
  server {{ listen {a}:9001; root {d}/www; location = /hello {{ return 200 "hello\\n"; }} }}
}}
"""


class Run:
    def __init__(self, mesh, options):
        self.mesh = mesh
        self.options = options
        self.gateway = mesh.addresses["n1"]

    def url(self, service, path):
        return f"http://{service}.test:{GATEWAY_PORT}{path}"

    def curl(self, service, path, *arguments, timeout=600, binary=False):
        need("curl")
        command = ["curl", "-sS", "--fail-with-body", "--connect-to", f"::{self.gateway}:", *arguments, self.url(service, path)]
        done = subprocess.run(command, capture_output=True, timeout=timeout)
        expect(done.returncode == 0, f"{' '.join(command)}: {done.stderr.decode()} {done.stdout[:300]!r}")
        return done.stdout if binary else done.stdout.decode()

    # HTTP/1.1

    def curl_http1(self):
        expect(self.curl("web", "/hello", "--http1.1") == "hello\n", "not nginx's answer")
        head = self.curl("echo", "/head?a=b", "--http1.1")
        expect(head.startswith("GET /head?a=b HTTP/1.1"), head)
        expect("x-request-id" in head.lower(), "no request id arrived")
        return self.curl("web", "/hello", "--http1.1", "-o", "/dev/null", "-w", "%{http_version} %{http_code}")

    def curl_http2(self):
        versions = self.curl("web", "/hello", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_version}")
        expect(versions == "2", f"spoke HTTP/{versions}")
        return self.curl("echo", "/", "--http2-prior-knowledge", "-d", "abc")

    def upload_and_download(self):
        path = f"{self.mesh.directory}/www/blob"
        with open(path, "rb") as blob:
            digest = hashlib.sha256(blob.read()).hexdigest()
        for version in ("--http1.1", "--http2-prior-knowledge"):
            got = self.curl("web", "/blob", version, binary=True)
            expect(hashlib.sha256(got).hexdigest() == digest, f"{version}: another file came down")
            back = self.curl("echo", "/", version, "-T", path, binary=True)
            expect(hashlib.sha256(back).hexdigest() == digest, f"{version}: another file came back")
            chunked = self.curl("echo", "/", version, "-T", path, "-H", "Transfer-Encoding: chunked", binary=True)
            expect(hashlib.sha256(chunked).hexdigest() == digest, f"{version}: another file came back (no length)")
        return f"{os.path.getsize(path) >> 20} MiB each way, with and without a length"

    def trailers(self):
        request = (
            b"POST /trailers HTTP/1.1\r\nHost: echo.test\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nTrailer: x-sum\r\n\r\n"
            b"3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n"
        )
        with socket.create_connection((self.gateway, GATEWAY_PORT), timeout=10) as stream:
            stream.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer.partition(b"\r\n0\r\n")[2] and (part := stream.recv(65536)):
                answer += part
        expect(b"x-checksum: 294" in answer.lower(), f"no response trailer: {answer!r}")
        expect(b"x-sum: 6" in answer.lower().partition(b"\r\n0\r\n")[2], f"no request trailer: {answer!r}")
        return "both ways"

    def expect_continue(self):
        out = self.curl("echo", "/sink", "--http1.1", "-H", "Expect: 100-continue", "-d", "x" * 5000, "-v")
        expect(out == "5000\n", out)
        return "100-continue, then 5000 bytes"

    def head_and_statuses(self):
        expect(self.curl("web", "/hello", "--head", "-o", "/dev/null", "-w", "%{http_code}") == "200", "HEAD")
        expect(self.curl("web", "/hello", "--http2-prior-knowledge", "--head", "-o", "/dev/null", "-w", "%{http_code}") == "200", "HEAD")
        return "HEAD without a body"

    # Memory

    def large_bodies(self):
        size = self.options.large
        before = {node: self.mesh.resident_bytes(node) for node in self.mesh.addresses}
        sparse = f"{self.mesh.directory}/www/large"
        with open(sparse, "wb") as file:
            file.truncate(size)
        count = self.curl("web", "/large", "-o", "/dev/null", "-w", "%{size_download}", timeout=3600)
        expect(int(count) == size, f"{count} bytes came down")
        count = self.curl("echo", "/sink", "-T", sparse, timeout=3600)
        expect(int(count) == size, f"{count} bytes went up")
        os.unlink(sparse)
        growth = {node: self.mesh.resident_bytes(node) - before[node] for node in before}
        expect(all(bytes < 32 << 20 for bytes in growth.values()), f"memory grew: {growth}")
        return f"{size / 1e9:.1f} GB down and up; memory grew by " + ", ".join(f"{b >> 10} KiB ({n})" for n, b in growth.items())

    # Load

    def wrk(self):
        need("wrk")
        out = subprocess.run(
            ["wrk", "-t1", "-c64", "-d5s", "-H", "Host: web.test", f"http://{self.gateway}:{GATEWAY_PORT}/hello"],
            capture_output=True, text=True, timeout=60,
        ).stdout
        expect("Non-2xx" not in out and "Socket errors" not in out and "Requests/sec" in out, out)
        return next(line.split()[1] for line in out.splitlines() if line.startswith("Requests/sec")) + " requests a second, no error"

    def h2load(self):
        need("h2load")
        total = 20000
        out = subprocess.run(
            ["h2load", "-n", str(total), "-c", "8", "-m", "32", "-H", ":authority: web.test",
             f"http://{self.gateway}:{GATEWAY_PORT}/hello"],
            capture_output=True, text=True, timeout=120,
        ).stdout
        expect(f"{total} succeeded, 0 failed, 0 errored, 0 timeout" in out and f"{total} 2xx" in out, out)
        return next(line for line in out.splitlines() if line.startswith("finished"))

    # gRPC

    def grpc(self):
        try:
            import grpc
        except ImportError:
            raise Skip("Python's grpcio is not installed")
        calls = self.options.calls
        channel = grpc.insecure_channel(
            f"{self.gateway}:{GATEWAY_PORT}", options=[("grpc.default_authority", "grpc.test")])
        unary = channel.unary_unary("/test.Kinds/Unary")
        for number in range(calls):
            sent = b"%d-abc" % number
            expect(unary(sent, timeout=10) == sent[::-1], f"unary call {number}")
        _, call = unary.with_call(b"xy", timeout=10)
        expect(("x-trailing", "yes") in [tuple(pair) for pair in call.trailing_metadata()], "trailing metadata is missing")
        try:
            unary(b"fail", timeout=10)
            raise Failure("the application's status was lost")
        except grpc.RpcError as error:
            expect(error.code() == grpc.StatusCode.FAILED_PRECONDITION and error.details() == "as asked", f"{error}")
        streams = max(1, calls // 10)
        for kind in range(streams):
            got = list(channel.unary_stream("/test.Kinds/ServerStream")(b"20", timeout=10))
            expect(got == [b"%d" % n for n in range(20)], f"server stream {kind}: {got}")
            expect(channel.stream_unary("/test.Kinds/ClientStream")(iter([b"1", b"2", b"39"]), timeout=10) == b"42", "client stream")
            got = list(channel.stream_stream("/test.Kinds/Both")(iter([b"a", b"b"]), timeout=10))
            expect(got == [b"A", b"B"], f"both: {got}")
        channel.close()
        return f"{calls} unary calls, {streams} of each streaming kind, trailing metadata, the application's status"

    # WebSocket and TCP

    def websocket(self):
        try:
            import websockets
        except ImportError:
            raise Skip("Python's websockets is not installed")

        async def talk():
            address = f"ws://websocket.test:{GATEWAY_PORT}/"
            async with websockets.connect(address, host=self.gateway, port=GATEWAY_PORT, max_size=None) as connection:
                for number in range(1000):
                    await connection.send(f"message {number}")
                    expect(await connection.recv() == f"message {number}", "another message came back")
                await connection.send(b"\0" * (4 << 20))
                expect(len(await connection.recv()) == 4 << 20, "a long message was cut")

        asyncio.run(talk())
        return "1,000 messages and one of 4 MiB came back"

    def server_first(self):
        """A server that speaks first is heard at once, through a gateway and a tunnel with mTLS (as MySQL, SMTP)."""
        slowest = 0.0
        for _ in range(50):
            began = time.monotonic()
            with socket.create_connection((self.gateway, BANNER_PORT), 10) as client:
                expect(client.recv(64) == b"220 ready\r\n", "the greeting is another one")
                slowest = max(slowest, time.monotonic() - began)
                client.sendall(b"HELO\r\n")
                expect(client.recv(64) == b"250 HELO\r\n", "the answer is another one")
        expect(slowest < 1, f"a greeting took {slowest:.2f} s")
        return f"50 connections, the slowest greeting after {slowest * 1000:.1f} ms"


CHECKS = {
    "curl-http1": Run.curl_http1,
    "curl-http2": Run.curl_http2,
    "transfer": Run.upload_and_download,
    "trailers": Run.trailers,
    "expect": Run.expect_continue,
    "head": Run.head_and_statuses,
    "wrk": Run.wrk,
    "h2load": Run.h2load,
    "grpc": Run.grpc,
    "websocket": Run.websocket,
    "server-first": Run.server_first,
    "large": Run.large_bodies,
}


def start_applications(mesh):
    address = mesh.addresses["n2"]
    directory = mesh.directory
    os.mkdir(f"{directory}/www")
    with open(f"{directory}/www/blob", "wb") as blob:
        blob.write(os.urandom(20 << 20))
    os.chmod(directory, 0o755)
    python = [sys.executable, f"{HERE}/origins.py"]
    if shutil.which("nginx"):
        with open(f"{directory}/nginx.conf", "w") as out:
            out.write("user root;" + NGINX.format(d=directory, a=address))
        mesh.run("web", 9001, [shutil.which("nginx"), "-c", f"{directory}/nginx.conf", "-p", directory])
    else:
        mesh.run("web", 9001, [*python, "echo", address, "9001"])
    mesh.run("echo", 9002, [*python, "echo", address, "9002"])
    mesh.run("websocket", 9004, [*python, "websocket", address, "9004"])
    mesh.run("grpc", 9003, [*python, "grpc", address, "9003"], options=["--protocol", "grpc"])
    mesh.run("banner", 9005, [*python, "banner", address, "9005"], options=["--protocol", "tcp"])

    def registered():
        text = mesh.command("services", "-o", "json")
        return all(name in text for name in SERVICES)

    eventually(registered, "the applications are registered", 60)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", metavar="MESH_NODE")
    parser.add_argument("--only", action="append", choices=list(CHECKS), help="run this check only; repeatable")
    parser.add_argument("--large", type=int, default=10_000_000_000, help="bytes of the large bodies (default: 10 GB)")
    parser.add_argument("--calls", type=int, default=10_000, help="unary gRPC calls (default: 10,000)")
    options = parser.parse_args()
    failed = 0
    with Mesh(options.program) as mesh:
        mesh.write_config("clients.yaml", configuration())
        mesh.start()
        start_applications(mesh)
        run = Run(mesh, options)
        eventually(lambda: answers(run), "the gateway answers for the applications", 30)
        for name in options.only or CHECKS:
            began = time.monotonic()
            try:
                verdict, words = "passed", CHECKS[name](run)
            except Skip as why:
                verdict, words = "skipped", str(why)
            except Exception as why:
                verdict, words, failed = "FAILED", f"{type(why).__name__}: {why}", failed + 1
            print(f"{verdict:8} {name:12} {time.monotonic() - began:6.1f} s  {words}", flush=True)
        for node in mesh.addresses:
            if mesh.processes[node].poll() is not None:
                failed += 1
                print(f"FAILED   {node} ended:\n{mesh.log(node)}")
        if failed:
            print(mesh.log("n1"), mesh.log("n2"), sep="\n")
    sys.exit(1 if failed else 0)


def answers(run):
    try:
        return run.curl("web", "/hello", timeout=5) == "hello\n" and run.curl("echo", "/", "-d", "a", timeout=5) == "a"
    except (Failure, subprocess.TimeoutExpired):
        return False


if __name__ == "__main__":
    main()
