import Dispatch
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Telemetry
import Testing

@Suite("Routing", .serialized) struct RoutingTests {
  private static func mesh(_ first: Origin, _ second: Origin, _ routes: [Route]) -> TestMesh {
    var mesh = TestMesh()
    mesh.clusters = [
      mesh.cluster("reviews", endpoints: [TestMesh.endpoint(first.port, key: 1)]),
      mesh.cluster("other", endpoints: [TestMesh.endpoint(second.port, key: 2)]),
    ]
    mesh.routes = routes
    return mesh
  }

  @Test func `header, path and method choose the route`() async throws {
    let (first, second) = (Origin.text("first"), Origin.text("second"))
    let jason = RouteMatch(headers: [FieldMatch(name: Array("end-user".utf8), match: .exact(Array("jason".utf8)))])
    let path = RouteMatch(path: .prefix(Array("/v2".utf8)), method: .exact(Array("GET".utf8)))
    let mesh = Self.mesh(
      first, second,
      [TestMesh.route(TestMesh.forward((1, 1)), matches: [jason, path]), TestMesh.route(TestMesh.forward((0, 1)))])
    let (bodies, _) = try await mesh.run { port in
      let client = TestClient(port: port)
      return [
        "GET / HTTP/1.1\r\nHost: reviews\r\nEnd-User: jason\r\n\r\n", "GET /v2x HTTP/1.1\r\nHost: reviews\r\n\r\n",
        "POST /v2 HTTP/1.1\r\nHost: reviews\r\nContent-Length: 0\r\n\r\n", "GET http://REVIEWS/ HTTP/1.1\r\nHost: x\r\n\r\n",
      ].map { client.request($0).map { String(decoding: $0.body, as: UTF8.self) } }
    }
    #expect(bodies == ["second", "second", "first", "first"])
  }

  @Test func `weights split the requests`() async throws {
    let (first, second) = (Origin.text("1"), Origin.text("2"))
    let mesh = Self.mesh(first, second, [TestMesh.route(TestMesh.forward((0, 80), (1, 20)))])
    let (seconds, _) = try await mesh.run { port in
      let client = TestClient(port: port)
      return (0..<500).filter { _ in
        client.request("GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")?.body == Array("2".utf8)
      }.count
    }
    #expect((60...140).contains(seconds))
  }

  /// Answers of one client that sends back what it is told, where it is told something.
  private static func bodies(_ mesh: TestMesh, _ count: Int, told: String, sent: String) async throws -> [String] {
    let (bodies, _) = try await mesh.run { port in
      let client = TestClient(port: port)
      var carried = ""
      return (0..<count).map { _ -> String in
        let response = client.request("GET / HTTP/1.1\r\nHost: reviews\r\n\(carried)\r\n")
        if let value = response?.header(told) { carried = "\(sent): \(value.prefix { $0 != ";" })\r\n" }
        return response.map { String(decoding: $0.body, as: UTF8.self) } ?? "-"
      }
    }
    return bodies
  }

  @Test(arguments: [SessionPersistence.Carrier.cookie(path: "/"), .header])
  func `a session stays with the endpoint of its first request, whatever the split is`(
    carrier: SessionPersistence.Carrier
  ) async throws {
    let origins = [Origin.text("1"), Origin.text("2"), Origin.text("3")]
    var mesh = TestMesh()
    mesh.clusters = [
      mesh.cluster("reviews", endpoints: (0...1).map { TestMesh.endpoint(origins[$0].port, key: UInt64($0 + 1)) }),
      mesh.cluster("other", endpoints: [TestMesh.endpoint(origins[2].port, key: 3)]),
    ]
    var route = TestMesh.route(TestMesh.forward((0, 50), (1, 50)))
    mesh.routes = [route]
    let (told, sent) = carrier == .header ? ("x-session", "x-session") : ("set-cookie", "cookie")
    #expect(Set(try await Self.bodies(mesh, 60, told: told, sent: sent)) == ["1", "2", "3"])
    let name = Array((carrier == .header ? "x-session" : "id").utf8)
    route.session = SessionPersistence(name: name, carrier: carrier)
    mesh.routes = [route]
    let stuck = try await Self.bodies(mesh, 30, told: told, sent: sent)
    #expect(Set(stuck).count == 1 && stuck[0] != "-")
    // A session that is told anew with each request stays as well; one of an endpoint that is gone begins again.
    route.session = SessionPersistence(name: name, carrier: carrier, absoluteTimeout: .seconds(60), idleTimeout: .seconds(30))
    mesh.routes = [route]
    #expect(Set(try await Self.bodies(mesh, 30, told: told, sent: sent)).count == 1)
    let (gone, _) = try await mesh.run { port in
      let value = carrier == .header ? "63.0.0" : "id=\"63.0.0\""
      return TestClient(port: port).request("GET / HTTP/1.1\r\nHost: reviews\r\n\(sent): \(value)\r\n\r\n")
    }
    #expect(gone?.status == 200 && gone?.header(told) != nil)
  }

  @Test func `rewrites and header operations reach the origin, and redirects the client`() async throws {
    let (first, second) = (Origin.text("1"), Origin.text("2"))
    var rewritten = TestMesh.route(matches: [RouteMatch(path: .prefix(Array("/old".utf8)))])
    rewritten.rewrite = RewritePolicy(uri: .replace(Array("/new".utf8)), authority: Array("other.example".utf8))
    rewritten.requestHeaders.set = [.init(name: Array("x-added".utf8), value: Array("yes".utf8))]
    rewritten.responseHeaders.add = [.init(name: Array("x-answer".utf8), value: Array("42".utf8))]
    let redirect = TestMesh.route(
      .redirect(
        RedirectPolicy(
          uri: Array("/there".utf8), prefixRewrite: nil, authority: nil, scheme: nil, port: nil, status: 302)))
    let mesh = Self.mesh(first, second, [rewritten, redirect])
    let (responses, _) = try await mesh.run { port in
      let client = TestClient(port: port)
      return ["/old/a?q=1", "/else"].map { client.request("GET \($0) HTTP/1.1\r\nHost: reviews\r\n\r\n") }
    }
    let request = first.requests.first ?? ""
    #expect(request.hasPrefix("GET /new/a?q=1 HTTP/1.1\r\nhost: other.example\r\n"))
    #expect(request.contains("x-added: yes"))
    #expect(request.contains("x-envoy-original-path: /old/a?q=1"))
    #expect(responses.first??.header("x-answer") == "42")
    #expect(responses.last??.status == 302)
    #expect(responses.last??.header("location") == "http://reviews/there")
  }

  @Test func `a gateway believes nothing its clients say about the mesh`() async throws {
    let origin = Origin.text("ok")
    var mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    mesh.gateway = GatewayListener(port: 8080, gateways: ["default/gw"], localWorkload: 0, table: mesh.table(port: 8080))
    let (responses, _) = try await mesh.run { port in
      let client = TestClient(port: port)
      return [
        client.request(
          "GET / HTTP/1.1\r\nHost: reviews\r\nX-Envoy-Retry-On: 5xx\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Client-Cert: By=me\r\nX-Request-Id: mine\r\n\r\n"
        ), client.request("GET / HTTP/1.1\r\nHost: reviews\r\nX_Under: 1\r\n\r\n"),
      ]
    }
    #expect(responses.first??.header("server") == "istio-envoy")
    let request = (origin.requests.first ?? "").lowercased()
    #expect(request.contains("x-forwarded-for: 9.9.9.9, 127.0.0.1\r\n"))
    #expect(request.contains("x-forwarded-proto: http\r\n"))
    for word in ["retry-on", "by=me", "x-request-id: mine"] { #expect(!request.contains(word)) }
    #expect(responses.last??.status == 400)
  }

  @Test func `a hop within the node is counted on both sides`() async throws {
    let origin = Origin.text("ok")
    var mesh = TestMesh()
    mesh.workloads.append(TestMesh.facts("reviews-v1", "default", "reviews"))
    mesh.endpoints = [TestMesh.endpoint(origin.port, isLocal: true, workload: 1)]
    let (_, statistics) = try await mesh.run { TestClient(port: $0).request("GET / HTTP/1.1\r\nHost: reviews\r\n\r\n") }
    let family = statistics.metrics.first { $0.name == "istio_requests_total" }
    #expect(family?.series.compactMap(\.labelValues.first).sorted() == ["destination", "source"])
    #expect(family?.series.allSatisfy { $0.labelValues.contains("reviews-v1") } == true)
  }

  @Test func `a mirror gets a copy with its body, and its answer reaches nobody`() async throws {
    let first = Origin.text("real")
    let mirrored = DispatchSemaphore(value: 0)
    let second = Origin.serving { _ in
      mirrored.signal()
      return HTTPResponse(status: 500, text: "mirror")
    }
    var route = TestMesh.route(TestMesh.forward((0, 1)))
    route.mirrors = [MirrorPolicy(cluster: 1, clusterName: "other", partsPerMillion: 1_000_000)]
    let (body, _) = try await Self.mesh(first, second, [route]).run { port in
      let response = TestClient(port: port).request("POST /m HTTP/1.1\r\nHost: reviews\r\nContent-Length: 2\r\n\r\nok")
      _ = mirrored.wait(timeout: .now() + 10)
      return response?.body
    }
    #expect(body == Array("real".utf8))
    #expect(second.requests.count == 1)
    #expect(second.requests.first?.hasPrefix("POST /m HTTP/1.1\r\n") == true)
    #expect(second.requests.first?.hasSuffix("\r\n\r\nok") == true)
  }

  @Test func `an unknown host is passed through, but never to the proxy itself`() async throws {
    let origin = Origin.text("outside")
    var mesh = TestMesh()
    var passthrough = mesh.cluster("PassthroughCluster", endpoints: [])
    passthrough.name = "PassthroughCluster"
    passthrough.discovery = .originalDestination
    mesh.clusters = [mesh.cluster(), passthrough]
    mesh.fallback = .passthrough(1)
    let (responses, statistics) = try await mesh.run { port in
      let client = TestClient(port: port)
      return [origin.port, port].map { client.request("GET http://127.0.0.1:\($0)/ HTTP/1.1\r\nHost: x\r\n\r\n") }
    }
    #expect(responses.map { $0?.status } == [200, 503])
    #expect(statistics.counters.requests == 2)
    let family = statistics.metrics.first { $0.name == "istio_requests_total" }
    #expect(family?.series.contains { $0.labelValues.contains("PassthroughCluster") } == true)
  }
}
