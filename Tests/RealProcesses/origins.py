"""The applications behind the mesh: `python3 origins.py echo|grpc|websocket ADDRESS PORT`."""

import socketserver
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(BaseHTTPRequestHandler):
    """Answers with what it got: /echo the body, /head the request head, /trailers chunked with trailers, /sink a count."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        """Yields the request's body, and notes its trailers."""
        self.trailers = []
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while (line := self.rfile.readline().strip()):
                self.trailers.append(line.decode())
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0:
            part = self.rfile.read(min(left, 1 << 16))
            if not part:
                raise ConnectionError("the body was cut")
            left -= len(part)
            yield part

    def answer(self, content, status=200, headers=()):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/sink":
            count = sum(len(part) for part in self.body())
            return self.answer(f"{count}\n".encode())
        if path == "/source":
            left = int(self.path.split("=")[1])
            self.send_response(200)
            self.send_header("Content-Length", str(left))
            self.end_headers()
            block = bytes(1 << 18)
            while left > 0:
                part = block[: min(left, len(block))]
                self.wfile.write(part)
                left -= len(part)
            return
        content = b"".join(self.body())
        if path == "/head":
            return self.answer(f"{self.requestline}\n{self.headers}".encode())
        if path == "/trailers":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Trailer", "x-checksum, x-request-trailers")
            self.end_headers()
            if content:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
            sent = ", ".join(self.trailers) or "none"
            self.wfile.write(f"0\r\nx-checksum: {sum(content)}\r\nx-request-trailers: {sent}\r\n\r\n".encode())
            return
        self.answer(content)

    do_POST = do_PUT = do_HEAD = do_GET


def serve_echo(address, port):
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer.request_queue_size = 512
    ThreadingHTTPServer((address, port), Echo).serve_forever()


def serve_grpc(address, port):
    import grpc

    def unary(request, context):
        if request == b"fail":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")
        context.set_trailing_metadata((("x-trailing", "yes"),))
        return request[::-1]

    def server_stream(request, context):
        for number in range(int(request)):
            yield b"%d" % number

    def client_stream(requests, context):
        return b"%d" % sum(int(request) for request in requests)

    def both(requests, context):
        for request in requests:
            yield request.upper()

    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "Both": grpc.stream_stream_rpc_method_handler(both),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Kinds", handlers),))
    server.add_insecure_port(f"{address}:{port}")
    server.start()
    threading.Event().wait()


def serve_websocket(address, port):
    import asyncio
    import websockets

    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    async def main():
        async with websockets.serve(echo, address, port, max_size=None):
            await asyncio.Future()

    asyncio.run(main())


def serve_banner(address, port):
    """A server that speaks first, as MySQL and SMTP servers do, then answers lines."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(b"220 ready\r\n")
            for line in self.rfile:
                self.wfile.write(b"250 " + line)

    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer.daemon_threads = True
    socketserver.ThreadingTCPServer((address, port), Handler).serve_forever()


if __name__ == "__main__":
    kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    {"echo": serve_echo, "grpc": serve_grpc, "websocket": serve_websocket, "banner": serve_banner}[kind](address, port)
