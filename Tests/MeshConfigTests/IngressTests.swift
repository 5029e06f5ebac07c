import Primitives
import Testing

@testable import MeshConfig

/// Ingress as Istio's controller follows it (Kubernetes, Ingress; Istio, `pilot/pkg/config/kube/ingress`).
@Suite struct IngressTests {
  private static func ingress(_ spec: String, name: String = "web", class className: String = "istio") -> String {
    let body = spec.split(separator: "\n").map { "  \($0)" }.joined(separator: "\n")
    return
      "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: \(name)\nspec:\n  ingressClassName: \(className)\n\(body)\n---\n"
  }

  private static let services =
    Fixture.object("Service", "a", spec: "ports: [{port: 80, name: http}, {port: 81, name: admin}]")
    + Fixture.object("Service", "b", spec: "ports: [{port: 80, name: http}]")

  private func compile(_ text: String) throws -> (snapshot: MeshSnapshot, findings: [Finding]) {
    let changes = Fixture.changeSet(text)
    #expect(!changes.hasErrors, "\(changes.findings)")
    let edge = try Fixture.workload(
      "edge", namespace: "istio-system", labels: ["istio": "ingressgateway"], isGateway: true)
    return try Fixture.compile(Self.services + text, [edge])
  }

  private static func path(_ path: String, _ type: String, _ service: String = "a", _ port: String = "{number: 80}") -> String {
    "{path: '\(path)', pathType: \(type), backend: {service: {name: \(service), port: \(port)}}}"
  }

  /// `path → service`, in order.
  private func routes(_ snapshot: MeshSnapshot, _ host: String, port: UInt16 = 80) -> [String] {
    guard let listener = snapshot.gateways.first(where: { $0.port == port }) else { return ["no port"] }
    return listener.table.routes(host, port).flatMap { route -> [String] in
      let service = route.destinations.map { $0.replacing("outbound|", with: "").prefix { $0 != "." } }.joined(separator: " ")
      return (route.matches.isEmpty ? [RouteMatch()] : route.matches).map { "\(Self.text($0.path)) \(service)" }
    }
  }

  private static func text(_ path: PathMatch?) -> String {
    switch path {
    case .exact(let bytes): "=" + String(decoding: bytes, as: UTF8.self)
    case .prefix(let bytes): String(decoding: bytes, as: UTF8.self)
    case .segmentPrefix, .regex: "?"
    case nil: "*"
    }
  }

  @Test func `longer paths come first, exact ones before prefixes, the default backend last`() throws {
    let paths = [
      Self.path("/", "Prefix", "b"), Self.path("/foo", "Prefix"), Self.path("/foo", "Exact", "b"),
      Self.path("/foo/bar/", "Prefix"),
    ]
    let spec = "rules:\n- host: x.com\n  http:\n    paths: [\(paths.joined(separator: ", "))]"
    let snapshot = try compile(Self.ingress(spec)).snapshot
    #expect(
      routes(snapshot, "x.com") == [
        "=/foo/bar 80||a", "/foo/bar/ 80||a", "=/foo 80||b", "=/foo 80||a", "/foo/ 80||a", "/ 80||b",
      ])
    let withDefault = "defaultBackend: {service: {name: b, port: {number: 80}}}\n" + spec.replacing("  host: x.com\n", with: "")
    let everywhere = withDefault.replacing("- host: x.com\n  http", with: "- http")
    #expect(routes(try compile(Self.ingress(everywhere)).snapshot, "y.com").last == "* 80||b")
  }

  @Test func `a port may be named, and what does not exist is no route`() throws {
    let paths = [
      Self.path("/a", "Exact", "a", "{name: admin}"), Self.path("/b", "Exact", "a", "{name: none}"),
      Self.path("/c*", "ImplementationSpecific"), Self.path("/d/*", "ImplementationSpecific"),
    ]
    let spec = "rules:\n- host: '*.x.com'\n  http:\n    paths: [\(paths.joined(separator: ", "))]"
    #expect(routes(try compile(Self.ingress(spec)).snapshot, "a.x.com") == ["/d 80||a", "=/c* 80||a", "=/a 81||a"])
  }

  @Test func `several Ingresses share a host`() throws {
    func spec(_ path: String, _ service: String) -> String {
      "rules:\n- host: x.com\n  http: {paths: [\(Self.path(path, "Prefix", service))]}"
    }
    let text = Self.ingress(spec("/a", "a"), name: "one") + Self.ingress(spec("/a/b", "b"), name: "two")
    #expect(routes(try compile(text).snapshot, "x.com") == ["=/a/b 80||b", "/a/b/ 80||b", "=/a 80||a", "/a/ 80||a"])
  }

  @Test func `only Istio's class is served`() throws {
    let spec = "defaultBackend: {service: {name: b, port: {number: 80}}}"
    #expect(try compile(Self.ingress(spec, class: "nginx")).snapshot.gateways.isEmpty)
    let own =
      "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: edge}\nspec: {controller: istio.io/ingress-controller}\n---\n"
    #expect(try compile(own + Self.ingress(spec, class: "edge")).snapshot.gateways.map(\.port) == [80])
    let annotated = Self.ingress(spec, class: "istio").replacing("  ingressClassName: istio\n", with: "")
      .replacing("  name: web\n", with: "  name: web\n  annotations: {kubernetes.io/ingress.class: istio}\n")
    #expect(try compile(annotated).snapshot.gateways.map(\.port) == [80])
    let none = annotated.replacing("  annotations: {kubernetes.io/ingress.class: istio}\n", with: "")
    #expect(try compile(none).snapshot.gateways.isEmpty)
    #expect(Fixture.changeSet(none).objects.first?.isEnforced == false)
  }

  @Test func `TLS has the Secret of the Ingress's namespace, else of the gateway's`() throws {
    func secret(_ namespace: String, _ text: String) -> String {
      "apiVersion: v1\nkind: Secret\nmetadata: {name: cert, namespace: \(namespace)}\nstringData: {cert: \(text), key: k}\n---\n"
    }
    let spec = "tls: [{hosts: [x.com], secretName: cert}]\ndefaultBackend: {service: {name: b, port: {number: 80}}}"
    func source(_ text: String) throws -> ServerTLS.Source? {
      let listener = try compile(text + Self.ingress(spec)).snapshot.gateways.first { $0.port == 443 }
      guard case .https(let settings)? = listener?.role else { return nil }
      #expect(listener?.serverNames.map(\.text) == ["x.com"])
      return settings.sources.first
    }
    func material(_ text: String) -> ServerTLS.Source { .material(certificate: Array(text.utf8), key: Array("k".utf8)) }
    let central = secret("istio-system", "central")
    #expect(try source(central) == material("central"))
    #expect(try source(central + secret("default", "own")) == material("own"))
    let none = try source("")
    guard case .missing? = none else {
      Issue.record("handshakes must fail, not \(String(describing: none))")
      return
    }
  }

  @Test func `what an Ingress was made into goes with it, and follows its Services`() throws {
    var compiler = SnapshotCompiler(settings: try Fixture.settings())
    compiler.put(try Fixture.workload("edge", namespace: "istio-system", labels: ["istio": "ingressgateway"], isGateway: true))
    let spec = "rules:\n- host: x.com\n  http: {paths: [\(Self.path("/a", "Exact", "a", "{name: admin}"))]}"
    let objects = Fixture.stored(Self.ingress(spec))
    let services = Fixture.stored(Self.services)
    func now(_ state: [StoredObject]) -> [String] {
      compiler.replace(objects: state)
      return routes(compiler.compile(revision: 1, registryVersion: 1).snapshot, "x.com")
    }
    #expect(now(objects) == [])
    #expect(now(objects + services) == ["=/a 81||a"])
    #expect(now(services) == ["no port"])
    #expect(now(objects + services) == ["=/a 81||a"])
  }

  @Test(arguments: [
    ("rules: []", "rules or a defaultBackend"), ("rules: [{host: 10.0.0.1}]", "not an IP address"),
    ("rules: [{host: 'a b'}]", "not a host name"), ("rules: [{http: {paths: []}}]", "required"),
    ("rules: [{http: {paths: [\(path("a", "Exact"))]}}]", "absolute path"),
    ("rules: [{http: {paths: [\(path("/a//b", "Prefix"))]}}]", "must not contain"),
    ("rules: [{http: {paths: [\(path("/", "Prefix", "a", "{}"))]}}]", "either number or name"),
    ("rules: [{http: {paths: [\(path("/", "Prefix", "a", "{number: 80, name: http}"))]}}]", "either number or name"),
    ("rules: [{http: {paths: [\(path("/", "Regex"))]}}]", "Prefix"),
    ("rules: [{http: {paths: [{path: /, backend: {service: {name: a, port: {number: 1}}}}]}}]", "required"),
    ("rules: [{http: {paths: [{path: /, pathType: Exact, backend: {}}]}}]", "required"),
  ])
  func `mistakes are errors`(spec: String, reason: String) {
    let errors = Fixture.changeSet(Self.ingress(spec)).findings.filter { $0.severity == .error }
    #expect(errors.contains { $0.reason.contains(reason) || $0.hint?.contains(reason) == true }, "\(errors)")
  }

  @Test func `a backend that is not there is a warning`() {
    let text = Self.ingress("rules:\n- http: {paths: [\(Self.path("/", "Prefix", "nobody"))]}")
    let plan = Plan(applying: Fixture.changeSet(text), to: [], settings: .init())
    #expect(plan.findings.map(\.code) == ["IST0101"])
    #expect(plan.findings.first?.path == "spec.rules[0].http.paths[0].backend.service.name")
  }
}
