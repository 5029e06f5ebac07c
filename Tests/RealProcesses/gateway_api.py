"""The Gateway API's request cases against a running node, with echo backends of our own.

  python3 Tests/RealProcesses/gateway_api.py PATH/mesh-node PATH/gateway-api [TEST ...]

Every Gateway of the suite has an address of its own there; here a node has one. So a test is run once for each Gateway it sends
requests to, with that Gateway alone. Prints `SUITE gateway-api passed failed skipped` and what failed.
"""

import concurrent.futures
import datetime
import http.client
import http.server
import json
import os
import re
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

import mesh as processes

CLASS, CONTROLLER = "istio", "istio.io/gateway-controller"
INFRA = "gateway-conformance-infra"
SKIPPED_FEATURES = {
    "SupportUDPRoute": "UDP is not served",
    "SupportMeshClusterIPMatching": "an explicit proxy is asked by name, so address and Host cannot differ",
    "SupportGatewayInfrastructurePropagation": "a Gateway creates no objects here",
}


class Skip(Exception):
    pass


# Certificates


class Certificates:
    """What the suite generates, made with openssl."""

    def __init__(self, directory):
        self.directory = directory
        self.objects = []
        ca = self.authority("tls-checks-ca")
        self.config_map(INFRA, "tls-checks-ca-certificate", ca)
        self.backend = self.signed("tls-checks", ca, "DNS:abc.example.com,DNS:other.example.com,URI:spiffe://abc.example.com/test-identity")
        self.secret(INFRA, "tls-checks-certificate", self.backend)
        self.secret(INFRA, "tls-checks-client-certificate", self.signed("client", ca, "DNS:client"))
        for namespace in (INFRA, "gateway-conformance-app-backend"):
            self.secret(namespace, "tls-passthrough-checks-certificate", self.signed("pass", ca, "DNS:abc.example.com"))
        self.terminate = self.signed("terminate", ca, "DNS:tls.example.com")
        self.secret(INFRA, "tls-terminate-checks-certificate", self.terminate)
        self.config_map(INFRA, "mismatch-ca-certificate", self.authority("mismatch"))
        self.config_map("gateway-conformance-web-backend", "web-backend-cm", self.authority("web"))
        wildcard = self.signed("validity", ca, "DNS:*,DNS:*.org,DNS:*.wildcard.org")
        self.secret(INFRA, "tls-validity-checks-certificate", wildcard)
        self.secret("gateway-conformance-web-backend", "certificate", wildcard)
        self.config_map(INFRA, "tls-validity-checks-ca-certificate", self.authority("validity-ca"))
        self.config_map(INFRA, "tls-validity-checks-per-port-ca-certificate", self.authority("per-port-ca"))

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=self.directory)

    def authority(self, name):
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                     "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/O=Acme Co/CN={name}",
                     "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
        return name

    def signed(self, name, ca, names):
        with open(f"{self.directory}/{name}.ext", "w") as out:
            out.write(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key",
                     "-out", f"{name}.csr", "-subj", "/O=Acme Co/CN=default")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-CAcreateserial",
                     "-days", "30", "-out", f"{name}.crt", "-extfile", f"{name}.ext")
        return name

    def read(self, name):
        with open(f"{self.directory}/{name}") as file:
            return file.read()

    def secret(self, namespace, name, pair):
        self.objects.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": name},
                             "type": "kubernetes.io/tls",
                             "stringData": {"tls.crt": self.read(f"{pair}.crt"), "tls.key": self.read(f"{pair}.key")}})

    def config_map(self, namespace, name, ca):
        self.objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": name},
                             "data": {"ca.crt": self.read(f"{ca}.crt")}})


# Backends


class Pod:
    def __init__(self, deployment, namespace, labels, environment, address):
        self.deployment, self.namespace, self.labels, self.address = deployment, namespace, labels, address
        self.environment = environment
        self.name = f"{deployment}-5d4f9c-x2x7k"
        self.seen = []
        self.failures = {}
        self.lock = threading.Lock()
        self.servers = []


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pod = None

    def log_message(self, *_):
        pass

    def answer(self, status, body, kind="application/json"):
        self.send_response(status)
        repeated = {}
        for pair in filter(None, (self.headers.get("X-Echo-Set-Header") or "").split(",")):
            name, _, value = pair.partition(":")
            repeated.setdefault(name.strip().lower(), (name.strip(), []))[1].append(value.strip())
        for name, values in repeated.values():
            self.send_header(name, ",".join(values))
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length:
            self.rfile.read(length)
        pod = self.pod
        path, _, query = self.path.partition("?")
        values = urllib.parse.parse_qs(query)
        with pod.lock:
            pod.seen.append(self.path)
        first = lambda name: values.get(name, [None])[0]
        if first("delay"):
            time.sleep(seconds(first("delay")))
        if re.sub("/+", "/", path).startswith("/retry/"):
            key, limit = first("uuid"), first("succeedAfter")
            if not key or limit is None:
                return self.answer(400, b"{}")
            with pod.shared_lock:
                pod.shared_failures[key] = pod.shared_failures.get(key, 0) + 1
                fails = pod.shared_failures[key] <= int(limit)
            if fails:
                if first("delayRetry"):
                    time.sleep(seconds(first("delayRetry")))
                if first("responseCode"):
                    return self.answer(int(first("responseCode")), b"{}")
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()
                return
        found = re.fullmatch("/status/([0-9]{3})", path)
        if found:
            return self.answer(int(found.group(1)), b"{}")
        headers = {}
        for name, value in self.headers.items():
            headers.setdefault(name, []).append(value)
        tls = None
        if isinstance(self.connection, ssl.SSLSocket):
            tls = {"serverName": getattr(self.connection, "asked", "")}
        body = {"path": self.path, "host": self.headers.get("Host", ""), "method": self.command, "proto": self.request_version,
                "headers": headers, "namespace": pod.namespace, "pod": pod.name, "tls": tls}
        self.answer(200, json.dumps(body).encode())

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = handle_any


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, *_):
        pass


def seconds(text):
    number, unit = re.fullmatch(r"([0-9.]+)(ms|s|m)", text).groups()
    return float(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


class TCPEcho(socketserver.BaseRequestHandler):
    pod = None

    def handle(self):
        is_tls = isinstance(self.request, ssl.SSLSocket)
        self.request.sendall(b"Gateway API Test TCP Server\n")
        file = self.request.makefile("rb")
        for line in file:
            if line.strip() == b"PING":
                self.request.sendall(b"PONG\n")
            elif line.strip() == b"IS_TLS":
                self.request.sendall(b"true\n" if is_tls else b"false\n")
            elif line.strip() == b"TEST":
                answer = {"namespace": self.pod.namespace, "pod": self.pod.name, "isTLS": is_tls,
                          "tls": {"serverName": getattr(self.request, "asked", "")} if is_tls else None}
                self.request.sendall(json.dumps(answer).encode() + b"\n")


def field(number, data):
    """A length-delimited field of a protocol buffer."""
    out, length = bytes([number << 3 | 2]), len(data)
    while length > 127:
        out, length = out + bytes([length & 127 | 128]), length >> 7
    return out + bytes([length]) + data


def fields(data):
    """Length-delimited fields of a protocol buffer."""
    at, found = 0, []
    while at < len(data):
        number, at, length, shift = data[at] >> 3, at + 1, 0, 0
        while True:
            byte = data[at]
            at, length, shift = at + 1, length | (byte & 127) << shift, shift + 7
            if byte < 128:
                break
        found.append((number, data[at:at + length]))
        at += length
    return found


class Backends:
    """All Deployments of the suite, each as one pod."""

    def __init__(self, network, certificates):
        self.network, self.certificates, self.pods, self.next = network, certificates, {}, 20
        self.shared, self.lock = {}, threading.Lock()

    def start(self, deployment):
        namespace, name = deployment["metadata"].get("namespace", "default"), deployment["metadata"]["name"]
        if (namespace, name) in self.pods:
            return
        template = deployment["spec"]["template"]
        container = template["spec"]["containers"][0]
        environment = {item["name"]: item.get("value", "") for item in container.get("env", [])}
        pod = Pod(name, namespace, template["metadata"].get("labels", {}), environment, f"{self.network}.{self.next}")
        pod.shared_failures, pod.shared_lock = self.shared, self.lock
        self.next += 1
        self.pods[namespace, name] = pod
        if "echo-advanced" in container.get("image", ""):
            self.serve(pod, 8080, Echo)
            self.serve_grpc(pod, 7070)
        elif "TCP_ECHO_SERVER" in environment:
            self.serve(pod, 3000, TCPEcho)
            self.serve(pod, 8443, TCPEcho, tls=True)
        elif "GRPC_ECHO_SERVER" in environment:
            self.serve_grpc(pod, 3000)
            if "TLS_SERVER_CERT" in environment:
                self.serve_grpc(pod, 8443, tls=True)
        elif "UDP_ECHO_SERVER" not in environment and "echo" in container.get("image", ""):
            self.serve(pod, 3000, Echo)
            if "TLS_SERVER_CERT" in environment:
                self.serve(pod, 8443, Echo, tls=True)

    def serve(self, pod, port, handler, tls=False):
        server = Server((pod.address, port), type("Handler", (handler,), {"pod": pod}), bind_and_activate=True)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            files = self.certificates
            context.load_cert_chain(f"{files.directory}/{files.backend}.crt", f"{files.directory}/{files.backend}.key")

            def asked(connection, name, _):
                connection.asked = name or ""

            context.sni_callback = asked
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pod.servers.append(server)

    def serve_grpc(self, pod, port, tls=False):
        import grpc

        class Methods(grpc.GenericRpcHandler):
            def service(self, details):
                parts = details.method.split("/")
                if len(parts) != 3 or parts[2] not in ("Echo", "EchoTwo"):
                    return None
                headers = details.invocation_metadata

                def echo(_, context):
                    place = field(1, pod.namespace.encode()) + field(4, pod.name.encode())
                    facts = field(1, details.method.encode()) + field(4, place)
                    for key, value in headers:
                        value = value if isinstance(value, bytes) else value.encode()
                        facts += field(2, field(1, key.encode()) + field(2, value))
                    return field(1, facts)

                return grpc.unary_unary_rpc_method_handler(echo)

        server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers((Methods(),))
        if tls:
            files = self.certificates
            pair = (files.read(f"{files.backend}.key").encode(), files.read(f"{files.backend}.crt").encode())
            server.add_secure_port(f"{pod.address}:{port}", grpc.ssl_server_credentials([pair]))
        else:
            server.add_insecure_port(f"{pod.address}:{port}")
        server.start()
        pod.servers.append(server)

    def slices(self, services, written):
        """Endpoints of Services by their selectors, and of slices that have to be filled by hand."""
        result = []
        for service in services:
            namespace, spec = service["metadata"].get("namespace", "default"), service["spec"]
            selector = spec.get("selector")
            if selector:
                pods = [pod for pod in self.pods.values() if pod.namespace == namespace
                        and all(pod.labels.get(key) == value for key, value in selector.items())]
            else:
                pods = [pod for pod in self.pods.values() if pod.deployment == "infra-backend-v1"]
            ports = [{"name": port.get("name", ""), "port": port.get("targetPort") or port["port"]} for port in spec.get("ports", [])]
            result.append({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                           "metadata": {"namespace": namespace, "name": f"{service['metadata']['name']}-runner",
                                        "labels": {"kubernetes.io/service-name": service["metadata"]["name"]}},
                           "ports": ports, "endpoints": [{"addresses": [pod.address]} for pod in pods]})
        return result


# Requests


class Runner:
    def __init__(self, program, data):
        self.data = data
        self.mesh = processes.Mesh(program, nodes=1)
        self.network = self.mesh.addresses["n1"].rsplit(".", 1)[0]
        self.directory = tempfile.mkdtemp(prefix="gateway-api-")
        self.certificates = Certificates(self.directory)
        self.backends = Backends(self.network, self.certificates)
        self.proxies = {}
        self.applied = []

    def read(self, path):
        import yaml

        with open(f"{self.data}/{path}") as file:
            text = file.read().replace("{GATEWAY_CLASS_NAME}", CLASS).replace("{GATEWAY_CONTROLLER_NAME}", CONTROLLER)
        return [document for document in yaml.safe_load_all(text) if document]

    def command(self, *arguments):
        return self.mesh.command(*arguments, timeout=60)

    def use(self, documents):
        """Makes these documents all that is applied."""
        for document in documents:
            if document["kind"] == "Deployment":
                self.backends.start(document)
        services = [document for document in documents if document["kind"] == "Service"]
        slices = [document for document in documents if document["kind"] == "EndpointSlice"]
        documents = [d for d in documents if d["kind"] not in ("Deployment", "EndpointSlice")] + self.backends.slices(services, slices)
        name = lambda d: (d["apiVersion"], d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"])
        gone = [d for d in self.applied if name(d) not in {name(new) for new in documents}]
        if gone:
            self.file("gone", gone)
            self.command("delete", "--wait", "-f", f"{self.directory}/gone.json")
        self.file("now", documents)
        self.command("apply", "--wait", "-f", f"{self.directory}/now.json")
        self.applied = documents

    def file(self, name, documents):
        with open(f"{self.directory}/{name}.json", "w") as out:
            json.dump({"apiVersion": "v1", "kind": "List", "items": documents}, out)

    def proxy(self, namespace):
        """The outbound port of a workload in a namespace."""
        if namespace not in self.proxies:
            path = f"{self.directory}/proxy-{namespace}"
            address = f"{self.network}.19"
            port = 9000 + len(self.proxies)
            server = Server((address, port), TCPEcho)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.mesh.run(f"client{len(self.proxies)}", port, ["sh", "-c", f'echo "$http_proxy" > {path}; exec sleep 100000'], node="n1",
                          options=["--namespace", namespace, "--address", address])
            processes.eventually(lambda: os.path.exists(path) and os.path.getsize(path) > 0, "a client has its outbound port")
            with open(path) as file:
                self.proxies[namespace] = urllib.parse.urlparse(file.read().strip())
        return self.proxies[namespace].hostname, self.proxies[namespace].port

    # One case

    def check(self, case):
        """Three good answers in a row; the last problem otherwise. The bound only ends a case that would never pass."""
        good, problem = 0, None
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                self.attempt(case)
                good, problem = good + 1, None
                if good == 3:
                    return None
            except Skip:
                raise
            except Exception as error:
                good, problem = 0, error
                time.sleep(0.1)
        return problem

    def attempt(self, case):
        protocol = case["protocol"]
        if case.get("expect") == "failure":
            try:
                status = self.grpc(case)[0] if protocol == "grpc" else self.http(case)[0]
            except (OSError, http.client.HTTPException):
                return
            if status == (0 if protocol == "grpc" else 200):
                raise AssertionError("the request succeeded")
            return
        if protocol in ("http", "https"):
            self.judge(case, *self.http(case))
        elif protocol == "mesh":
            if case.get("Request", {}).get("Protocol") == "grpc":
                self.judge_grpc(case, *self.grpc(case))
            else:
                self.judge(case, *self.http(case))
        elif protocol == "grpc":
            self.judge_grpc(case, *self.grpc(case))
        elif protocol in ("tcp", "tls"):
            self.judge_connection(case, self.connection(case))
        else:
            raise Skip(f"protocol {protocol}")

    def http(self, case):
        request = case.get("Request", {})
        path = request.get("Path") or "/"
        path = path.replace("{uuid}", str(uuid.uuid4()))
        case["sent"] = path
        if case.get("MirroredTo"):
            case["mark"] = f"gateway-api-conformance-request-id={uuid.uuid4()}"
            path += ("&" if "?" in path else "?") + case["mark"]
            case["sent"] = path
        headers = dict(request.get("Headers") or {})
        set_headers = case.get("BackendSetResponseHeaders") or {}
        headers["X-Echo-Set-Header"] = ",".join(f"{name}:{value}" for name, value in set_headers.items())
        if case["protocol"] == "mesh":
            address, port = self.proxy(case["from"]["namespace"])
            host = request.get("Host") or "echo"
            connection = http.client.HTTPConnection(address, port, timeout=10)
            path = f"http://{host}{path}"
        else:
            host = request.get("Host") or ""
            address, port = self.mesh.addresses["n1"], case["to"]["port"]
            if case["protocol"] == "https":
                name = (case.get("tls") or {}).get("serverName") or host
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                raw = context.wrap_socket(socket.create_connection((address, port), 10), server_hostname=name)
                connection = http.client.HTTPConnection(address, port, timeout=10)
                connection.sock = raw
            else:
                connection = http.client.HTTPConnection(address, port, timeout=10)
        try:
            connection.putrequest(request.get("Method") or "GET", path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host or f"{address}:{port}")
            for name, value in headers.items():
                if name.lower() != "host":
                    connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            body = response.read()
            return response.status, response.headers, body
        finally:
            connection.close()

    def judge(self, case, status, headers, body):
        wanted = case.get("Response") or {}
        codes = wanted.get("StatusCodes") or [wanted.get("StatusCode") or 200]
        if status in (408, 504):
            codes = codes + ([408, 504] if 408 in codes or 504 in codes else [])
        if status not in codes:
            raise AssertionError(f"status {status}, not {codes}")
        for name, value in (wanted.get("Headers") or {}).items():
            found = ",".join(headers.get_all(name) or [])
            if found != value:
                raise AssertionError(f"response header {name}: '{found}', not '{value}'")
        for name in wanted.get("AbsentHeaders") or []:
            if headers.get(name) is not None:
                raise AssertionError(f"response header {name} is there")
        if 300 <= status < 400 and case.get("RedirectRequest") is not None:
            self.judge_redirect(case, headers)
        if status not in (200, 204) or not body.startswith(b"{"):
            return
        echoed = json.loads(body)
        if "pod" not in echoed:
            return
        self.judge_echo(case, echoed)

    def judge_echo(self, case, echoed):
        expected = (case.get("ExpectedRequest") or {}).get("Request") or {}
        absent = (case.get("ExpectedRequest") or {}).get("AbsentHeaders") or []
        if case["protocol"] != "mesh":
            path = expected.get("Path") or case.get("Request", {}).get("Path") or "/"
            if case.get("mark"):
                path += ("&" if "?" in path else "?") + case["mark"]
            if "{uuid}" not in path and echoed["path"] != path:
                raise AssertionError(f"path {echoed['path']}, not {path}")
            host = expected.get("Host") or ""
            if host and echoed["host"] != host:
                raise AssertionError(f"host {echoed['host']}, not {host}")
            method = expected.get("Method") or case.get("Request", {}).get("Method") or "GET"
            if echoed["method"] != method:
                raise AssertionError(f"method {echoed['method']}")
        seen = {}
        for name, values in echoed["headers"].items():
            seen.setdefault(name.lower(), []).extend(values)
        for name, value in (expected.get("Headers") or {}).items():
            found = ",".join(seen.get(name.lower(), []))
            if found != value:
                raise AssertionError(f"backend saw {name}: '{found}', not '{value}'")
        for name in absent:
            if name.lower() in seen:
                raise AssertionError(f"backend saw {name}")
        if case.get("Backend") and not echoed["pod"].startswith(case["Backend"]):
            raise AssertionError(f"answered by {echoed['pod']}, not {case['Backend']}")
        if case.get("Backend") and case.get("Namespace") and echoed["namespace"] != case["Namespace"]:
            raise AssertionError(f"answered in {echoed['namespace']}")
        if case.get("Request", {}).get("SNI") and (echoed.get("tls") or {}).get("serverName") != case["Request"]["SNI"]:
            raise AssertionError(f"backend saw SNI {echoed.get('tls')}")
        for mirror in case.get("MirroredTo") or []:
            name = mirror["BackendRef"]["Name"]
            pods = [pod for pod in self.backends.pods.values() if pod.deployment == name]
            processes.eventually(lambda: any(case["mark"] in path for pod in pods for path in pod.seen), f"a copy at {name}", 30)

    def judge_redirect(self, case, headers):
        wanted, location = case["RedirectRequest"] or {}, urllib.parse.urlparse(headers.get("Location") or "")
        scheme = wanted.get("Scheme") or ("https" if case["protocol"] == "https" else "http")
        if location.scheme != scheme:
            raise AssertionError(f"scheme of {headers.get('Location')}")
        if wanted.get("Host") and location.hostname != wanted["Host"]:
            raise AssertionError(f"host of {headers.get('Location')}")
        port = str(location.port or "")
        if wanted.get("Port"):
            if port != wanted["Port"]:
                raise AssertionError(f"port of {headers.get('Location')}, not {wanted['Port']}")
        elif port not in ("", "80" if scheme == "http" else "443"):
            raise AssertionError(f"port of {headers.get('Location')}")
        path = wanted.get("Path") or case.get("Request", {}).get("Path", "/").split("?")[0]
        if location.path != path:
            raise AssertionError(f"path of {headers.get('Location')}, not {path}")

    def grpc(self, case):
        import grpc

        metadata = case.get("RequestMetadata") or {}
        method = next((name[:-len("Request")] for name in ("EchoTwoRequest", "EchoThreeRequest", "EchoRequest") if name in case), "Echo")
        headers = list((metadata.get("Metadata") or {}).items())
        if case["protocol"] == "mesh":
            address, port = self.proxy(case["from"]["namespace"])
            authority = case["Request"].get("Host") or "echo:7070"
            headers += list((case["Request"].get("Headers") or {}).items())
        else:
            address, port = self.mesh.addresses["n1"], case["to"]["port"]
            authority = metadata.get("Authority") or f"{address}:{port}"
        with grpc.insecure_channel(f"{address}:{port}", options=[("grpc.default_authority", authority)]) as channel:
            call = channel.unary_unary(f"/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/{method}")
            try:
                answer = call(b"", timeout=5, metadata=[(name.lower(), value) for name, value in headers])
                return 0, answer
            except grpc.RpcError as error:
                return error.code().value[0], error.details().encode()

    def judge_grpc(self, case, code, answer):
        wanted = (case.get("Response") or {}).get("Code") or 0
        if case["protocol"] == "mesh":
            wanted = 0
        if code != wanted:
            raise AssertionError(f"gRPC status {code} ({answer[:80]}), not {wanted}")
        if code != 0:
            return
        facts = fields(dict(fields(answer)).get(1, b""))
        pod = dict(fields(dict(facts).get(4, b""))).get(4, b"").decode()
        if case.get("Backend") and not pod.startswith(case["Backend"]):
            raise AssertionError(f"answered by {pod}")
        case["answered"] = pod
        expected = (case.get("ExpectedRequest") or {}).get("Request") or {}
        seen = {}
        for number, data in facts:
            if number == 2:
                pair = dict(fields(data))
                seen.setdefault(pair.get(1, b"").decode(), []).append(pair.get(2, b"").decode(errors="replace"))
        for name, value in (expected.get("Headers") or {}).items():
            if ",".join(seen.get(name.lower(), [])) != value:
                raise AssertionError(f"backend saw {name}: {seen.get(name.lower())}")
        for name in (case.get("ExpectedRequest") or {}).get("AbsentHeaders") or []:
            if name.lower() in seen:
                raise AssertionError(f"backend saw {name}")

    def connection(self, case):
        raw = socket.create_connection((self.mesh.addresses["n1"], case["to"]["port"]), 10)
        if case["protocol"] == "tls":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            raw = context.wrap_socket(raw, server_hostname=case["tls"]["serverName"])
        with raw:
            file = raw.makefile("rb")
            if b"Gateway API Test TCP Server" not in file.readline():
                raise AssertionError("no greeting")
            raw.sendall(b"PING\n")
            if file.readline().strip() != b"PONG":
                raise AssertionError("no PONG")
            raw.sendall(b"TEST\n")
            return json.loads(file.readline())

    def judge_connection(self, case, echoed):
        if case.get("Backend") and not echoed["pod"].startswith(case["Backend"]):
            raise AssertionError(f"answered by {echoed['pod']}")
        if case["protocol"] == "tls" and bool(case.get("BackendIsTLS")) != echoed["isTLS"]:
            raise AssertionError(f"backend saw TLS: {echoed['isTLS']}")
        if case.get("Hostname") and (echoed.get("tls") or {}).get("serverName") != case["Hostname"]:
            raise AssertionError(f"backend saw {echoed.get('tls')}")

    def distribution(self, item):
        """Shares within 0.05 of the weights: after 500 answers, or after more where chance decides each of them."""
        counts, total, problem = {}, 0, None
        while total < 4000:
            for _ in range(500):
                try:
                    pod = self.answering_pod(item)
                except AssertionError as error:
                    return error
                name = pod.rsplit("-", 2)[0]
                counts[name] = counts.get(name, 0) + 1
            total += 500
            problem = self.judge_shares(item["weights"], {name: count / total for name, count in counts.items()})
            if problem is None:
                return None
        return problem

    def answering_pod(self, item):
        protocol = item["protocol"]
        if protocol == "tcp":
            return self.connection(item)["pod"]
        if protocol == "grpc" or item.get("Request", {}).get("Protocol") == "grpc":
            code, answer = self.grpc(item)
            if code:
                raise AssertionError(f"gRPC status {code}")
            return dict(fields(dict(fields(dict(fields(answer)).get(1, b""))).get(4, b""))).get(4, b"").decode()
        status, _, body = self.http(item)
        if status != 200:
            raise AssertionError(f"status {status}")
        return json.loads(body)["pod"]

    def judge_shares(self, weights, shares):
        for name, weight in weights.items():
            share = shares.get(name, 0)
            if abs(share - weight) > 0.05 or weight == 0 and share:
                return f"{name} got {share:.3f}, not {weight}"
        strangers = set(shares) - set(weights)
        return f"answers by {strangers}" if strangers else None

    # All tests

    def run(self, names):
        with open(f"{self.data}/cases.json") as file:
            tests = json.loads(file.read().replace("{GATEWAY_CLASS_NAME}", CLASS).replace("{GATEWAY_CONTROLLER_NAME}", CONTROLLER))
        base, fixtures = self.read("base/manifests.yaml"), self.read("mesh/manifests.yaml")
        passed, failed, skipped = 0, [], []
        for test in tests:
            if names and test["test"] not in names:
                continue
            cases = [("case", case) for case in test.get("cases", [])] + [("weights", item) for item in test.get("weights", [])]
            reason = next((SKIPPED_FEATURES[feature] for feature in test["features"] if feature in SKIPPED_FEATURES), None)
            if reason:
                skipped += [f"{test['test']}: {reason}"] * len(cases)
                continue
            manifests = [document for path in test.get("manifests", []) for document in self.read(path)]
            places = sorted({case["to"]["gateway"] if "to" in case else "" for _, case in cases})
            for place in places:
                mine = [item for item in cases if (item[1]["to"]["gateway"] if "to" in item[1] else "") == place]
                documents = (fixtures if not place else base + self.certificates.objects) + manifests
                documents = [d for d in documents if d["kind"] != "Gateway"
                             or f"{d['metadata'].get('namespace')}/{d['metadata']['name']}" == place]
                try:
                    self.use(unique(documents))
                except Exception as error:
                    failed += [f"{test['test']}: {error}"] * len(mine)
                    continue
                for kind, case in mine:
                    try:
                        problem = self.check(case) if kind == "case" else self.distribution(case)
                    except Skip as skip:
                        skipped.append(f"{test['test']}: {skip}")
                        continue
                    except Exception as error:
                        problem = error
                    if problem is None:
                        passed += 1
                    else:
                        what = case.get("step") or case.get("TestCaseName") or case.get("Request", {}).get("Path") or ""
                        failed.append(f"{test['test']} ({what[:60]} {json.dumps(case.get('Request', {}))[:100]}): {problem}")
                        print(f"FAILED {failed[-1]}", flush=True)
        for line in sorted(set(skipped)):
            print(f"skipped {line}")
        print(f"SUITE gateway-api {passed} {len(failed)} {len(skipped)}")
        return failed


def unique(documents):
    """The last of documents with one name."""
    found = {}
    for document in documents:
        metadata = document["metadata"]
        found[document["apiVersion"], document["kind"], metadata.get("namespace"), metadata["name"]] = document
    return list(found.values())


def main():
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    runner = Runner(sys.argv[1], sys.argv[2])
    with runner.mesh:
        runner.mesh.start()
        failed = runner.run(sys.argv[3:])
        if failed and os.environ.get("MESH_LOGS"):
            print(runner.mesh.log("n1", 60))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
