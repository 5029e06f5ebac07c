import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Testing
import Transport

/// Istio's `preserveHttp1HeaderCase`, from a client on one node to an application on another and back.
@Suite("Case of field names", .serialized) struct HeaderCaseTests {
  private static let keep: @Sendable (inout MeshSettings) -> Void = { $0.proxy.headers.preservesCase = true }
  private static let leave: @Sendable (inout MeshSettings) -> Void = { _ in }
  private static let request = "GET / HTTP/1.1\r\nHost: reviews\r\nX-Custom-ID: 1\r\nSOAPAction: a\r\nx-lower: 2\r\n\r\n"
  private static let answer =
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Answer-ID: 3\r\nServer: mine\r\nx-small: 4\r\nX-Mesh-Header-Case: X-SMALL\r\n\r\nok"

  /// An application that is strict about bytes: it records heads as they come, and answers with these.
  private static func origin(_ answers: String...) -> Origin {
    Origin { origin, wire in
      for answer in answers {
        origin.record(Array(wire.receive(until: "\r\n\r\n").utf8))
        wire.send(answer)
      }
      _ = wire.receive()
    }
  }

  /// What the application read, and what the client got, over two nodes.
  private static func hop(
    _ origin: Origin, _ request: String, near: @escaping @Sendable (inout MeshSettings) -> Void,
    far: @escaping @Sendable (inout MeshSettings) -> Void, routes: [Route]? = nil, until end: String = "\r\n\r\n"
  ) async throws -> (read: String, got: String) {
    let authority = try MeshHopTests.Authority("n1")
    let bundle = try MeshHopTests.bundle(authority)
    let server = MeshHopTests.server(origin.port, try authority.identity("reviews", bundle: bundle), configure: far)
    let farRuntime = try ProxyRuntime(workers: 1, serving: server)
    let meshPort = await farRuntime.publish(server).address(of: .meshInbound)?.port ?? 0
    let client = MeshHopTests.client(
      meshPort, origin.port, try authority.identity("client", bundle: bundle), routes: routes, configure: near)
    let nearRuntime = try ProxyRuntime(workers: 1, serving: client)
    let port = await nearRuntime.publish(client).address(of: TestMesh.client)?.port ?? 0
    let got = await blocking {
      let wire = Wire.connect(port: port)
      wire.send(request)
      return wire.receive(until: end)
    }
    await nearRuntime.stop()
    await farRuntime.stop()
    return (origin.requests.first ?? "", got)
  }

  @Test func `names cross two nodes as they were written, both ways`() async throws {
    let (read, got) = try await Self.hop(Self.origin(Self.answer), Self.request, near: Self.keep, far: Self.keep)
    #expect(read.hasPrefix("GET / HTTP/1.1\r\nHost: reviews\r\n"))
    #expect(read.contains("X-Custom-ID: 1\r\n") && read.contains("SOAPAction: a\r\n") && read.contains("\r\nx-lower: 2\r\n"))
    #expect(got.contains("X-Answer-ID: 3\r\n") && got.contains("Content-Length: 2\r\n") && got.contains("\r\nx-small: 4\r\n"))
    // What the mesh writes in the place of a field is written as that field was (Envoy, `preserve_case`).
    #expect(got.contains("Server: envoy\r\n"))
    #expect(!read.lowercased().contains("header-case") && !got.lowercased().contains("header-case"))
  }

  @Test func `without it names between nodes are in lower case`() async throws {
    let (read, got) = try await Self.hop(Self.origin(Self.answer), Self.request, near: { _ in }, far: { _ in })
    #expect(read.contains("x-custom-id: 1\r\n") && read.contains("soapaction: a\r\n"))
    #expect(got.contains("x-answer-id: 3\r\n"))
    #expect(!read.lowercased().contains("header-case") && !got.lowercased().contains("header-case"))
  }

  /// A change of configuration reaches one node before the other.
  @Test(arguments: [true, false])
  func `nothing is passed on that only one side knows`(isNearFirst: Bool) async throws {
    let (read, got) = try await Self.hop(
      Self.origin(Self.answer), Self.request, near: isNearFirst ? Self.keep : Self.leave,
      far: isNearFirst ? Self.leave : Self.keep)
    #expect(read.contains("x-custom-id: 1\r\n") && got.contains("x-answer-id: 3\r\n"))
    #expect(!read.lowercased().contains("header-case") && !got.lowercased().contains("header-case"))
  }

  @Test func `a client's own word for it is not believed`() async throws {
    let request = "GET / HTTP/1.1\r\nHost: reviews\r\nx-lower: 2\r\nx-mesh-header-case: X-LOWER\r\n\r\n"
    let (read, _) = try await Self.hop(Self.origin(Self.answer), request, near: Self.keep, far: Self.keep)
    #expect(read.contains("\r\nx-lower: 2\r\n") && !read.contains("header-case"))
  }

  @Test func `fields that a route removes, sets and adds keep to it`() async throws {
    var route = TestMesh.route()
    route.requestHeaders.remove = [Array("soapaction".utf8)]
    route.requestHeaders.set = [HeaderOperations.Field(name: Array("x-custom-id".utf8), value: Array("9".utf8), format: nil)]
    route.requestHeaders.add = [HeaderOperations.Field(name: Array("x-new".utf8), value: Array("8".utf8), format: nil)]
    let (read, _) = try await Self.hop(
      Self.origin(Self.answer), Self.request, near: Self.keep, far: Self.keep, routes: [route])
    #expect(read.contains("X-Custom-ID: 9\r\n") && read.contains("\r\nx-new: 8\r\n") && !read.contains("SOAPAction"))
  }

  @Test func `a switch of protocols and early hints keep it, too`() async throws {
    let request =
      "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n"
      + "Sec-WebSocket-Version: 13\r\n\r\n"
    let origin = Self.origin(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Own: 1\r\n\r\n")
    let (read, got) = try await Self.hop(origin, request, near: Self.keep, far: Self.keep)
    #expect(read.contains("Sec-WebSocket-Key: a\r\n") && read.contains("Connection: upgrade\r\n"))
    #expect(got.hasPrefix("HTTP/1.1 101") && got.contains("X-Own: 1\r\n"))
    let hints = Self.origin("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + Self.answer)
    let early = try await Self.hop(hints, Self.request, near: Self.keep, far: Self.keep, until: "ok").got
    #expect(early.hasPrefix("HTTP/1.1 103") && early.contains("Link: a\r\n") && early.contains("X-Answer-ID: 3\r\n"))
  }

  @Test func `on one node what takes a field's place is written as it was`() async throws {
    let origin = Self.origin(Self.answer)
    var mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    mesh.configure = Self.keep
    let request = Self.request.replacing("x-lower: 2", with: "X-Envoy-Attempt-Count: 7")
    let (got, _) = try await mesh.run { port in
      let wire = Wire.connect(port: port)
      wire.send(request)
      return wire.receive(until: "\r\n\r\n")
    }
    let read = origin.requests.first ?? ""
    #expect(read.contains("X-Envoy-Attempt-Count: 1\r\n") && read.contains("X-Custom-ID: 1\r\n"))
    #expect(got.contains("Server: envoy\r\n"))
  }

  @Test func `what nodes tell each other of a request does not follow it elsewhere`() async throws {
    let authority = try MeshHopTests.Authority("n1")
    let outside = Self.origin(Self.answer)
    var client = MeshHopTests.client(
      closedPort(), 9080, try authority.identity("client", bundle: MeshHopTests.bundle(authority)), configure: Self.keep)
    let old = client.snapshot
    var clusters = Array(old.clusters)
    clusters[0].endpoints.append(TestMesh.endpoint(outside.port, key: 2))
    client.snapshot = MeshSnapshot(
      revision: 1, registryVersion: 1, settings: old.settings, services: old.services, clusters: clusters,
      workloads: Array(old.workloads), outbound: old.outbound, localWorkloads: old.localWorkloads, gateways: [])
    let runtime = try ProxyRuntime(workers: 1, serving: client)
    let port = await runtime.publish(client).address(of: TestMesh.client)?.port ?? 0
    let got = await blocking {
      let wire = Wire.connect(port: port)
      wire.send(Self.request)
      return wire.receive(until: "\r\n\r\n")
    }
    await runtime.stop()
    #expect(got.hasPrefix("HTTP/1.1 200"))
    let read = outside.requests.first ?? ""
    #expect(read.contains("X-Custom-ID: 1\r\n") && !read.contains("x-mesh"))
  }
}
