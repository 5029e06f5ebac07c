import Testing

@testable import MeshConfig

@Suite struct GatewayAPITests {
  private static let services = """
    apiVersion: v1
    kind: Service
    metadata: {name: web, namespace: default}
    spec: {ports: [{port: 80, name: http}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: api, namespace: other}
    spec: {ports: [{port: 80, name: http}]}
    ---

    """
  private static func gateway(_ listeners: String) -> String {
    """
    apiVersion: gateway.networking.k8s.io/v1
    kind: Gateway
    metadata: {name: edge, namespace: default}
    spec: {gatewayClassName: istio, listeners: [\(listeners)]}
    ---

    """
  }
  private static func route(_ name: String, _ spec: String, namespace: String = "default", kind: String = "HTTPRoute") -> String
  {
    """
    apiVersion: gateway.networking.k8s.io/v1
    kind: \(kind)
    metadata: {name: \(name), namespace: \(namespace)}
    spec: {\(spec)}
    ---

    """
  }

  private func listeners(_ text: String) throws -> [GatewayListener] {
    let gateway = try Fixture.workload(nil, namespace: "istio-system", isGateway: true)
    return try Fixture.compile(Self.services + text, [gateway]).snapshot.gateways
  }

  private func names(_ text: String, host: String = "a.test") throws -> [String] {
    try #require(try listeners(text).first).table.routes(host, 80).map(\.name)
  }

  private static let http = "{name: http, port: 80, protocol: HTTP}"
  private static let parent = "parentRefs: [{name: edge}]"
  private static let backend = "backendRefs: [{name: web, port: 80}]"

  @Test func `exact paths come before longer prefixes, those before patterns, and a rule without conditions last`() throws {
    let rules = [
      "{name: all, \(Self.backend)}", "{name: short, matches: [{path: {value: /a}}], \(Self.backend)}",
      "{name: regex, matches: [{path: {type: RegularExpression, value: '/a.*'}}], \(Self.backend)}",
      "{name: long, matches: [{path: {value: /a/b}}], \(Self.backend)}",
      "{name: exact, matches: [{path: {type: Exact, value: /a/b}}], \(Self.backend)}",
      "{name: headers, matches: [{path: {value: /a}, headers: [{name: x, value: y}]}], \(Self.backend)}",
      "{name: method, matches: [{path: {value: /a}, method: GET}], \(Self.backend)}",
    ]
    let text = Self.gateway(Self.http) + Self.route("r", "\(Self.parent), rules: [\(rules.joined(separator: ", "))]")
    #expect(try names(text) == ["exact", "long", "method", "headers", "short", "regex", "all"])
  }

  @Test func `among equal rules the older route wins, then the name`() throws {
    let text =
      Self.gateway(Self.http) + Self.route("b", "\(Self.parent), rules: [{name: old, \(Self.backend)}]")
      + Self.route("a", "\(Self.parent), rules: [{name: young, \(Self.backend)}]")
    #expect(try names(text) == ["old", "young"])
  }

  @Test func `a request is for the routes of the most specific listener only`() throws {
    let two = "{name: any, port: 80, protocol: HTTP}, {name: one, port: 80, protocol: HTTP, hostname: a.test}"
    let text =
      Self.gateway(two)
      + Self.route("any", "parentRefs: [{name: edge, sectionName: any}], rules: [{name: any, \(Self.backend)}]")
      + Self.route("one", "parentRefs: [{name: edge, sectionName: one}], rules: [{name: one, \(Self.backend)}]")
    #expect(try names(text, host: "a.test") == ["one"])
    #expect(try names(text, host: "b.test") == ["any"])
  }

  @Test func `a backend of another namespace needs a grant, and fails its share without one`() throws {
    let route = Self.route("r", "\(Self.parent), rules: [{backendRefs: [{name: api, namespace: other, port: 80}]}]")
    let grant = """
      apiVersion: gateway.networking.k8s.io/v1beta1
      kind: ReferenceGrant
      metadata: {name: g, namespace: other}
      spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}], to: [{group: '', kind: Service}]}
      ---

      """
    func destination(_ text: String) throws -> [String] {
      try #require(try listeners(text).first).table.routes("a.test", 80).flatMap(\.destinations)
    }
    #expect(try destination(Self.gateway(Self.http) + route) == ["Service other/api=1!"])
    #expect(try destination(Self.gateway(Self.http) + route + grant) == ["outbound|80||api.other.svc.cluster.local=1"])
  }

  @Test func `a rule without backends answers 500`() throws {
    let text = Self.gateway(Self.http) + Self.route("r", "\(Self.parent), rules: [{name: nobody}]")
    let action = try #require(try listeners(text).first).table.routes("a.test", 80).first?.action
    guard case .directResponse(let status, _)? = action else { throw TestFailure("no direct response") }
    #expect(status == 500)
  }

  @Test func `a Gateway of a class that another controller serves is left alone`() throws {
    let text = Self.gateway(Self.http).replacing("gatewayClassName: istio", with: "gatewayClassName: nginx")
    #expect(try listeners(text).isEmpty)
  }

  @Test func `routes of the mesh go to clients of the service's namespace and, from elsewhere, to their own`() throws {
    let parent = "parentRefs: [{group: '', kind: Service, name: web, namespace: default, port: 80}]"
    let producer = Self.route("p", "\(parent), rules: [{name: producer, \(Self.backend)}]")
    let consumer = Self.route(
      "c", "\(parent), rules: [{name: consumer, backendRefs: [{name: api, port: 80}]}]", namespace: "other")
    for (namespace, expected) in [("default", "producer"), ("other", "consumer"), ("third", "producer")] {
      let client = try Fixture.workload("client", namespace: namespace)
      let snapshot = try Fixture.compile(Self.services + producer + consumer, [client]).snapshot
      #expect(snapshot.routes("web.default.svc.cluster.local", 80).map(\.name) == [expected])
    }
  }

  @Test(arguments: [
    (
      "rules: [{filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: web, port: 80}]}]",
      "RequestRedirect"
    ),
    ("rules: [{backendRefs: [{name: web}]}]", "Must have port"),
    ("rules: [{matches: [{path: {value: a}}]}]", "absolute path"),
    ("rules: [{filters: [{type: URLRewrite}]}]", "must be specified"),
    ("rules: [{timeouts: {request: 1s, backendRequest: 2s}}]", "cannot be longer"),
    ("hostnames: ['1.2.3.4']", "not a host name"), ("hostname: [a]", "unknown field"),
  ])
  func `admission refuses what the API forbids`(spec: String, reason: String) {
    let findings = Fixture.changeSet(Self.route("r", "\(Self.parent), \(spec)")).findings
    #expect(findings.contains { $0.severity == .error && $0.reason.contains(reason) }, "\(findings)")
  }

  @Test func `a rule's sessions have a name, a carrier and a path of their own`() throws {
    func session(_ written: String, _ matches: String = "[]", kind: String = "HTTPRoute") throws -> SessionPersistence? {
      let rule = "{matches: \(matches), \(Self.backend), sessionPersistence: \(written)}"
      let text = Self.gateway(Self.http) + Self.route("r", "\(Self.parent), rules: [\(rule)]", kind: kind)
      #expect(Fixture.changeSet(text).findings.isEmpty, "\(Fixture.changeSet(text).findings)")
      return try #require(try listeners(text).first).table.routes("a.test", 80).first?.session
    }
    let plain = try #require(try session("{}"))
    #expect(String(decoding: plain.name, as: UTF8.self).hasPrefix("mesh-session-") && plain.carrier == .cookie(path: "/"))
    #expect(plain.absoluteTimeout == nil && plain.idleTimeout == nil && !plain.isPermanent)
    #expect(try session("{}")?.name == plain.name)
    let header = try session("{type: Header, sessionName: X-Session, absoluteTimeout: 1h, idleTimeout: 30s}", kind: "GRPCRoute")
    #expect(header?.carrier == .header && header?.name == Array("x-session".utf8))
    #expect(header?.absoluteTimeout == .seconds(3600) && header?.idleTimeout == .seconds(30))
    let permanent = try session("{sessionName: Id, absoluteTimeout: 60s, cookieConfig: {lifetimeType: Permanent}}")
    #expect(permanent?.isPermanent == true && permanent?.name == Array("Id".utf8))
    for (matches, path) in [
      ("[{path: {value: /shop/cart}}, {path: {type: Exact, value: /shop/pay}}]", "/shop"), ("[{path: {value: /a/b}}]", "/a/b"),
      ("[{path: {value: /shop}}, {path: {value: /shopping}}]", "/"),
      ("[{path: {type: RegularExpression, value: '/a.*'}}]", "/"),
    ] {
      #expect(try session("{}", matches)?.carrier == .cookie(path: path))
    }
  }

  @Test(arguments: [
    ("{cookieConfig: {lifetimeType: Permanent}}", "absoluteTimeout must be specified"),
    ("{type: Header, cookieConfig: {lifetimeType: Session}}", "only be set with type Cookie"),
    ("{sessionName: 'a b'}", "is not a name"), ("{type: Token}", "Cookie"), ("{absoluteTimeout: 1ms}", "absoluteTimeout"),
  ])
  func `sessions that the API forbids are refused`(session: String, reason: String) {
    let rule = "{\(Self.backend), sessionPersistence: \(session)}"
    let errors = Fixture.changeSet(Self.route("r", "\(Self.parent), rules: [\(rule)]")).findings.filter {
      $0.severity == .error
    }
    #expect(errors.contains { "\($0)".contains(reason) }, "\(errors)")
  }

  @Test func `a Gateway that asks for addresses is served by the nodes that have them`() throws {
    func text(_ addresses: String) -> String {
      Self.gateway(Self.http).replacing("listeners:", with: "addresses: \(addresses), listeners:")
    }
    func programmed(_ addresses: String) throws -> (yaml: String, isServed: Bool) {
      let objects = Fixture.stored(Self.services + text(addresses))
      let status = GatewayAPI.Status(
        objects: objects, services: [], domain: "cluster.local", address: "127.0.0.1", nodes: ["127.0.0.1", "192.0.2.2"])
      let gateway = try #require(objects.first { $0.key.kind == .kubernetesGateway })
      return (gateway.object.yaml(status: status.status(of: gateway.key)), try !listeners(text(addresses)).isEmpty)
    }
    let own = try programmed("[{value: 127.0.0.1}]")
    #expect(own.isServed && own.yaml.contains(#"value: "127.0.0.1""#) && !own.yaml.contains("AddressNotUsable"), "\(own)")
    let other = try programmed("[{type: IPAddress, value: 192.0.2.2}]")
    #expect(
      !other.isServed && other.yaml.contains(#"value: "192.0.2.2""#) && !other.yaml.contains("AddressNotUsable"), "\(other)")
    let nobody = try programmed("[{value: 192.0.2.9}]")
    #expect(!nobody.isServed && nobody.yaml.contains("AddressNotUsable") && nobody.yaml.contains("no node has 192.0.2.9"))
    #expect(try programmed("[{type: Hostname, value: a.test}]").yaml.contains("UnsupportedAddress"))
    #expect(Fixture.changeSet(text("[{value: 192.0.2.9}]")).findings.isEmpty)
  }

  @Test func `status is printed with the object`() throws {
    let text = Self.gateway(Self.http) + Self.route("r", "\(Self.parent), rules: [{\(Self.backend)}]")
    let objects = Fixture.stored(Self.services + text)
    let snapshot = try Fixture.compile(Self.services + text, []).snapshot
    let status = GatewayAPI.Status(
      objects: objects, services: snapshot.services, domain: "cluster.local", address: "127.0.0.1")
    let gateway = try #require(objects.first { $0.key.kind == .kubernetesGateway })
    let yaml = gateway.object.yaml(status: status.status(of: gateway.key))
    #expect(yaml.contains("attachedRoutes: 1") && yaml.contains("type: Programmed"))
  }

  private struct TestFailure: Error {
    let reason: String
    init(_ reason: String) { self.reason = reason }
  }
}
