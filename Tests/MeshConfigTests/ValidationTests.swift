import Testing

@testable import MeshConfig

/// One case for each sentence of Istio, validation.
@Suite struct ValidationTests {
  private static let item = "- route: [{destination: {host: a}}]"
  private static let route = "  route: [{destination: {host: a}}]"

  private func problems(_ kind: String, _ spec: String) -> [Finding] {
    Fixture.changeSet(Fixture.object(kind, "x", spec: spec)).findings
  }

  @Test func `with a namespace that is fixed, objects may name no other`() throws {
    func changes(_ text: String, isFixed: Bool) -> ChangeSet {
      ChangeSet([ConfigSource(name: "a", bytes: Array(text.utf8))], defaultNamespace: "other", isFixed: isFixed)
    }
    let rule = Fixture.object("DestinationRule", "d", namespace: "x", spec: "host: a")
    let refused = changes(rule, isFixed: true)
    let errors = refused.findings.filter { $0.severity == .error }
    #expect(refused.objects.isEmpty && errors.count == 1 && errors.first?.line == 5)
    let reason =
      "the namespace from the provided object \"x\" does not match the namespace \"other\". "
      + "You must pass '--namespace=x' to perform this operation."
    #expect(errors.first?.reason == reason && errors.first?.path == "metadata.namespace")
    #expect(changes(rule, isFixed: false).objects.map(\.key.namespace) == ["x"])
    let own = rule.replacing("namespace: x", with: "namespace: other")
    let none = rule.replacing("  namespace: x\n", with: "")
    let cluster = "apiVersion: v1\nkind: Namespace\nmetadata: {name: n, namespace: x}\n"
    for text in [own, none] { #expect(changes(text, isFixed: true).objects.map(\.key.namespace) == ["other"]) }
    #expect(changes(cluster, isFixed: true).objects.map(\.key.namespace) == [""])
  }

  @Test(arguments: [
    ("hosts: [a]", "must be provided"),
    ("hosts: ['a b']\nhttp:\n\(item)", "not a host name"),
    ("hosts: ['*']\nhttp:\n\(item)", "not allowed for virtual services bound to the mesh"),
    ("hosts: ['*.x.com', a.x.com]\nhttp:\n\(item)", "overlaps"),
    ("hosts: [a]\nhttp:\n\(item)\n  redirect: {uri: /x}", "cannot contain both route and redirect"),
    ("hosts: [a]\nhttp:\n\(item)\n  directResponse: {status: 200}", "cannot contain both route and directResponse"),
    (
      "hosts: [a]\nhttp:\n- redirect: {uri: /x}\n  directResponse: {status: 200}",
      "cannot contain both redirect and directResponse"
    ),
    ("hosts: [a]\nhttp:\n\(item)\n  delegate: {name: d}", "cannot contain both route and delegate"),
    ("hosts: [a]\nhttp:\n- match: [{uri: {exact: /}}]", "is required"),
    ("hosts: [a]\nhttp:\n- redirect: {uri: /x}\n  fault: {delay: {fixedDelay: 1s}}", "both fault and redirect"),
    ("hosts: [a]\nhttp:\n- redirect: {uri: /x}\n  rewrite: {uri: /y}", "both rewrite and redirect"),
    ("http:\n- delegate: {name: d}", "delegate HTTP route cannot contain delegate"),
    ("gateways: [g]\nhttp:\n\(item)", "must have no gateways"),
    ("http:\n\(item)\ntcp:\n\(item)", "must have no tcp routes"),
    ("hosts: [a]\nhttp:\n\(item)\n  mirror: {host: b}\n  mirrors: [{destination: {host: b}}]", "exclude each other"),
    ("hosts: [a]\nhttp:\n\(item)\n  mirror: {host: b}\n  mirrorPercentage: {value: 101}", "out of range"),
    ("hosts: [a]\nhttp:\n\(item)\n  mirrorPercent: 1\n  mirror_percent: 1", "both of its spellings"),
    ("hosts: [a]\nhttp:\n\(item)\n  headers: {request: {set: {':path': x}}}", "cannot be changed|can be changed"),
    ("hosts: [a]\nhttp:\n\(item)\n  headers: {request: {remove: [host]}}", "cannot be removed"),
    ("hosts: [a]\nhttp:\n\(item)\n  headers: {response: {set: {host: x}}}", "no authority"),
    ("hosts: [a]\nhttp:\n\(item)\n  headers: {request: {set: {x: \"a\\nb\"}}}", "control characters"),
    ("hosts: [a]\nhttp:\n\(item)\n  headers: {request: {set: {host: x, ':authority': z}}}", "set twice"),
    ("hosts: [a]\nhttp:\n- match: [{headers: {'@request.auth.claims.sub': {exact: x}}}]\n\(route)", "without gateway"),
    ("hosts: [a]\nhttp:\n- route: [{destination: {host: a}}, {destination: {host: b}}]", "weight cannot be 0"),
    ("hosts: [a]\nhttp:\n- route: [{destination: {host: a}, weight: -1}]", "out of range"),
    ("hosts: [a]\nhttp:\n- redirect: {uri: /x, prefixRewrite: /y}", "exclude each other"),
    ("hosts: [a]\nhttp:\n- match: [{uri: {exact: /}}]\n  redirect: {prefixRewrite: /y}", "uri prefix in every match"),
    ("hosts: [a]\nhttp:\n- redirect: {}", "must specify uri"),
    ("hosts: [a]\nhttp:\n- redirect: {uri: /x, redirectCode: 304}", "is not 301"),
    ("hosts: [a]\nhttp:\n- redirect: {scheme: ftp}", "http or https"),
    ("hosts: [a]\nhttp:\n\(item)\n  rewrite: {uri: /x, uriRegexRewrite: {match: a, rewrite: b}}", "only contain one of"),
    ("hosts: [a]\nhttp:\n\(item)\n  rewrite: {}", "must specify uri"),
    ("hosts: [a]\nhttp:\n\(item)\n  rewrite: {uriRegexRewrite: {match: a, rewrite: '\\2'}}", "parenthesized subexpressions"),
    ("hosts: [a]\nhttp:\n\(item)\n  fault: {}", "must have an abort"),
    ("hosts: [a]\nhttp:\n\(item)\n  fault: {abort: {http2Error: x}}", "not supported"),
    ("hosts: [a]\nhttp:\n\(item)\n  fault: {delay: {exponentialDelay: 1s}}", "not supported"),
    ("hosts: [a]\nhttp:\n\(item)\n  fault: {abort: {httpStatus: 500, percentage: {value: 0.00001}}}", "too small"),
    ("hosts: [a]\nhttp:\n\(item)\n  fault: {abort: {httpStatus: 601}}", "out of range"),
    ("hosts: [a]\nhttp:\n\(item)\n  fault: {abort: {grpcStatus: NOPE}}", "not a gRPC status"),
    ("hosts: [a]\nhttp:\n\(item)\n  fault: {delay: {fixedDelay: 10us}}", "too short"),
    ("hosts: [a]\nhttp:\n\(item)\n  timeout: 100us", "too short"),
    ("hosts: [a]\nhttp:\n- directResponse: {status: 100}", "out of range"),
    ("hosts: [a]\nhttp:\n- directResponse: {status: 200, body: {bytes: '***'}}", "not base64"),
    ("hosts: [a]\nhttp:\n\(item)\n  corsPolicy: {maxAge: 1.5s}", "whole seconds"),
    ("hosts: [a]\nhttp:\n\(item)\n  corsPolicy: {allowMethods: [FETCH]}", "unsupported HTTP method"),
    ("hosts: [a]\nhttp:\n\(item)\n  retries: {attempts: 1, retryOn: gatway-error}", "not a retry condition"),
    ("hosts: [a]\nhttp:\n- match: [{method: {prefix: ''}}]\n\(route)", "must not be empty"),
    ("hosts: [a]\nhttp:\n- match: [{uri: {regex: ''}}]\n\(route)", "must not be empty"),
    ("hosts: [a]\nhttp:\n- match: [{uri: {regex: 'a(?!b)'}}]\n\(route)", "not an RE2 expression"),
    ("hosts: [a]\ntls:\n- route: [{destination: {host: a}}]", "at least one match"),
    ("hosts: [a]\ntls:\n- match: [{}]\n  route: [{destination: {host: a}}]", "at least one SNI host"),
    ("hosts: [a.com]\ntls:\n- match: [{sniHosts: [b.com]}]\n  route: [{destination: {host: a}}]", "not a compatible subset"),
    ("hosts: [a]\ntcp:\n- match: [{port: 1}]", "at least one destination"),
    ("hosts: [a]\nhttp:\n- route: [{destination: {host: a, subset: 'v 1'}}]", "not a subset name"),
    ("hosts: [a]\nexportTo: ['*', x]\nhttp:\n\(item)", "together"),
    ("hosts: [a]\nexportTo: [default, '.']\nhttp:\n\(item)", "stands twice"),
    ("hosts: [a]\nhttp:\n\(item)\n  headers: {request: {set: {x: '%DOWNSTREAM_MOOD%'}}}", "no operator that is known"),
    ("hosts: [a]\nhttp:\n\(item)\n  headers: {response: {add: {x: '%REQ(x):-1%'}}}", "a number of bytes"),
  ])
  func `a VirtualService is refused`(spec: String, reason: String) {
    let errors = problems("VirtualService", spec).filter { $0.severity == .error }
    let words = reason.split(separator: "|")
    #expect(errors.contains { finding in words.contains { finding.reason.contains($0) } }, "\(errors.map(\.description))")
  }

  @Test(arguments: [
    ("hosts: [a]\nhttp:\n\(item)\n  mirror: {host: b}\n  mirrorPercent: 5", "IST0002"),
    ("hosts: [a]\nhttp:\n\(item)\n  corsPolicy: {allowOrigin: [x]}", "IST0002"),
    ("hosts: [a]\nhttp:\n\(item)\n  fault: {delay: {fixedDelay: 1s, percent: 5}}", "IST0002"),
    ("hosts: [a]\nhttp:\n\(item)\n  fault: {abort: {percentage: {value: 5}}}", "IST0133"),
    ("hosts: [a]\nhttp:\n\(item)\n\(item)", "IST0130"),
    ("hosts: [a]\nhttp:\n- match: [{uri: {prefix: /}}]\n\(route)\n\(item)", "IST0130"),
    ("hosts: [a]\nhttp:\n- match: [{port: 1}]\n\(route)\n- match: [{port: 1}]\n\(route)", "IST0131"),
    ("hosts: [a]\ngateways: [g.ns]\nhttp:\n\(item)", "IST0133"),
    ("hosts: [a]\nhttp:\n\(item)\n  headers: {request: {set: {x: '%CEL(request.path)%'}}}", "MESH0001"),
  ])
  func `a VirtualService is accepted with a warning`(spec: String, code: String) {
    let changeSet = Fixture.changeSet(Fixture.object("VirtualService", "x", spec: spec))
    #expect(changeSet.findings.map(\.code).contains(code), "\(changeSet.findings)")
    #expect(changeSet.objects.count == 1)
  }

  /// What Envoy refuses, with the place and what was probably meant.
  @Test(arguments: [
    ("%REQUST_DURATION%", "did you mean 'REQUEST_DURATION'?"), ("%req(x)%", "did you mean 'REQ'?"),
    ("%REQ%", "write '%REQ(…)%'"),
    ("%PROTOCOL(x)%", "write '%PROTOCOL%'"), ("%GRPC_STATUS(SNAKE_STRNG)%", "did you mean 'SNAKE_STRING'?"),
    ("50% or 60%", "write %% for a percent sign"), ("%START_TIME(%Q)%", "strftime"),
  ])
  func `an operator in a header value is refused where it stands, with a hint`(value: String, hint: String) {
    let spec = "hosts: [a]\nhttp:\n\(Self.item)\n  headers: {request: {set: {x: '\(value)'}}}"
    let changeSet = Fixture.changeSet(Fixture.object("VirtualService", "x", spec: spec))
    let error = changeSet.findings.first { $0.severity == .error }
    #expect(error?.path == "spec.http[0].headers.request.set.x" && (error?.line ?? 0) > 1)
    #expect(error?.hint?.contains(hint) == true, "\(changeSet.findings)")
    #expect(changeSet.objects.isEmpty)
  }

  /// An earlier version took them; they stand for nothing.
  @Test func `unknown operators in what is stored already are kept`() throws {
    let virtualService = """
      {"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"x","namespace":"default"},"spec":{"hosts":["a"],
      "http":[{"route":[{"destination":{"host":"a"}}],"headers":{"request":{"set":{"x":"%NOPE%"}}}}]}}
      """
    let route = """
      {"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"x","namespace":"default"},"spec":{"rules":[
      {"filters":[{"type":"RequestHeaderModifier","requestHeaderModifier":{"set":[{"name":"x","value":"50%"}]}}]}]}}
      """
    let mesh = """
      {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"istio","namespace":"istio-system"},
      "data":{"mesh":"{accessLogFile: /dev/stdout, accessLogFormat: '%NOPE%'}"}}
      """
    for stored in [virtualService, route, mesh] {
      #expect(throws: Never.self) { try MeshObject.decode(canonical: Array(stored.utf8)) }
      #expect(Fixture.changeSet(stored).hasErrors)
    }
  }

  @Test func `an operator in a header filter of an HTTPRoute is refused where it stands`() {
    let route = """
      apiVersion: gateway.networking.k8s.io/v1
      kind: HTTPRoute
      metadata: {name: x, namespace: default}
      spec:
        rules:
        - filters:
          - type: ResponseHeaderModifier
            responseHeaderModifier: {set: [{name: a, value: '%PROTOCOL% 100%%'}], add: [{name: b, value: '%PROTOCL%'}]}
      """
    let errors = Fixture.changeSet(route).findings.filter { $0.severity == .error }
    #expect(errors.map(\.path) == ["spec.rules[0].filters[0].responseHeaderModifier.add[0].value"])
    #expect(errors.first?.hint == "did you mean 'PROTOCOL'?")
  }

  @Test(arguments: [
    ("subsets: []", "required"),
    ("host: a\nsubsets: [{name: v1}, {name: v1}]", "duplicate subset name"),
    ("host: a\ntrafficPolicy: {}", "empty"),
    ("host: a\ntrafficPolicy: {connectionPool: {}}", "empty"),
    ("host: a\ntrafficPolicy: {portLevelSettings: [{port: {number: 1}}]}", "empty"),
    ("host: a\ntrafficPolicy: {connectionPool: {tcp: {maxConnections: -1}}}", "out of range"),
    ("host: a\ntrafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 10}}}}", "not a prime"),
    ("host: a\ntrafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 5000011}}}}", "below"),
    (
      "host: a\ntrafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 1, ringHash: {}}}}",
      "exclude each other"
    ),
    ("host: a\ntrafficPolicy: {loadBalancer: {zoneAwareLbSetting: {}, localityLbSetting: {}}}", "exclude each other"),
    ("host: a\ntrafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {ttl: 1s}}}}", "required"),
    (
      "host: a\ntrafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: c, attributes: [{name: x}, {name: x}]}}}}",
      "stands twice"
    ),
    ("host: a\ntrafficPolicy: {loadBalancer: {warmup: {minimumPercent: 5}}}", "required"),
    ("host: a\ntrafficPolicy: {loadBalancer: {warmup: {duration: 5s, minimumPercent: 150.0}}}", "out of range"),
    ("host: a\ntrafficPolicy: {loadBalancer: {warmup: {duration: 5s, aggression: -0.1}}}", "out of range"),
    ("host: a\ntrafficPolicy: {loadBalancer: {simple: FASTEST}}", "is not one of"),
    ("host: a\ntrafficPolicy: {outlierDetection: {consecutiveLocalOriginFailures: 1}}", "splitExternalLocalOriginErrors"),
    ("host: a\ntrafficPolicy: {outlierDetection: {maxEjectionPercent: 101}}", "out of range"),
    (
      "host: a\ntrafficPolicy: {tunnel: {targetHost: b, targetPort: 1}, proxyProtocol: {version: V1}}", "exclude each other"
    ),
    ("host: a\ntrafficPolicy: {tunnel: {protocol: PUT, targetHost: b, targetPort: 1}}", "CONNECT or POST"),
    ("host: a\ntrafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}", "exclude"),
    ("host: a\ntrafficPolicy: {connectionPool: {http: {http2KeepAlive: {interval: 1s}}}}", "required"),
    ("host: a\ntrafficPolicy: {tls: {mode: MUTUAL}}", "required for mode MUTUAL"),
    ("host: a\ntrafficPolicy: {tls: {mode: ISTIO_MUTUAL, clientCertificate: /x}}", "not allowed"),
    ("host: a\nworkloadSelector: {matchLabels: {a: b}}\nexportTo: [other]", "own namespace only"),
    ("host: a\ntrafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 50}}]}}}", "add up to 100"),
  ])
  func `a DestinationRule is refused`(spec: String, reason: String) {
    let errors = problems("DestinationRule", spec).filter { $0.severity == .error }
    #expect(errors.contains { $0.reason.contains(reason) }, "\(errors.map(\.description))")
  }

  @Test(arguments: [
    ("servers: []", "at least one server"),
    ("servers: [{port: {number: 80, name: a, protocol: HTTP}}]", "at least one host"),
    ("servers: [{hosts: ['*']}]", "required"),
    ("servers: [{port: {number: 80, protocol: HTTP}, hosts: ['*']}]", "required"),
    (
      "servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*']}, {port: {number: 81, name: a, protocol: HTTP}, hosts: ['*']}]",
      "stands twice"
    ),
    ("servers: [{port: {number: 80, name: a, protocol: SPDY}, hosts: ['*']}]", "is not one of"),
    ("servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*']}]", "required for protocol HTTPS"),
    (
      "servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: c}}]",
      "no TLS settings"
    ),
    (
      "servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*'], tls: {mode: ISTIO_MUTUAL, credentialName: c}}]",
      "not allowed"
    ),
    (
      "servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: c, serverCertificate: a, privateKey: b}}]",
      "more than one source"
    ),
    (
      "servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE}}]",
      "required for mode SIMPLE"
    ),
    (
      "servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*'], tls: {mode: MUTUAL, serverCertificate: a, privateKey: b}}]",
      "required for mode MUTUAL"
    ),
    ("servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*'], bind: 'unix:///x'}]", "has no port"),
    ("servers: [{port: {number: 0, name: a, protocol: HTTP}, hosts: ['*'], bind: 'unix://x'}]", "abstract socket"),
    (
      "servers: [{port: {number: 0, name: a, protocol: HTTP}, hosts: ['*'], bind: 'unix:///\(String(repeating: "x", count: 200))'}]",
      "longer than"
    ),
    ("servers: [{port: {number: 0, name: a, protocol: HTTP}, hosts: ['*'], bind: '127.0.0.1'}]", "1–65535"),
    ("servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ['a/b/c']}]", "not a host"),
  ])
  func `a Gateway is refused`(spec: String, reason: String) {
    let errors = problems("Gateway", spec).filter { $0.severity == .error }
    #expect(errors.contains { $0.reason.contains(reason) }, "\(errors.map(\.description))")
  }

  @Test(arguments: [
    ("ports: []", "at least one host"),
    ("hosts: ['*']", "hostname cannot be wildcard"),
    ("hosts: ['*.x.com']\nresolution: DNS", "cannot be resolved by DNS"),
    ("hosts: [a.com]\nresolution: DYNAMIC_DNS", "needs a wildcard host"),
    ("hosts: [a.com]\naddresses: [1.2.3.0/24]\nresolution: DNS", "NONE/STATIC"),
    ("hosts: [a.com]\naddresses: [here]", "not an IP address"),
    ("hosts: [a.com]\nports: [{number: 80, name: a}, {number: 80, name: b}]", "cannot be duplicated"),
    ("hosts: [a.com]\nports: [{number: 0, name: a}]", "out of range"),
    ("hosts: [a.com]\nendpoints: [{address: 1.1.1.1}]", "NONE mode cannot set endpoints"),
    ("hosts: [a.com]\nresolution: STATIC\nendpoints: [{address: b.com}]", "is neither"),
    (
      "hosts: [a.com]\nresolution: DNS_ROUND_ROBIN\nendpoints: [{address: b.com}, {address: c.com}]",
      "cannot have multiple endpoints"
    ),
    ("hosts: [a.com]\nresolution: STATIC\nendpoints: [{address: 1.1.1.1, ports: {x: 1}}]", "not defined"),
    ("hosts: [a.com]\nresolution: STATIC\nendpoints: [{address: 'unix:///x', ports: {x: 1}}]", "no ports"),
    (
      "hosts: [a.com]\nresolution: STATIC\nworkloadSelector: {labels: {a: b}}\nendpoints: [{address: 1.1.1.1}]",
      "only one of"
    ),
    ("hosts: [a.com, b.com]\nresolution: DNS\nports: [{number: 5, name: a, protocol: TCP}]", "cannot be told apart"),
  ])
  func `a ServiceEntry is refused`(spec: String, reason: String) {
    let errors = problems("ServiceEntry", spec).filter { $0.severity == .error }
    #expect(errors.contains { $0.reason.contains(reason) }, "\(errors.map(\.description))")
  }

  // MARK: Between objects

  private let settings = ReferenceRules.Settings()

  @Test func `a route to a subset that no rule defines is a warning that names the nearest`() throws {
    let rule = Fixture.object("DestinationRule", "r", spec: "host: a\nsubsets: [{name: v1}]")
    let routes = Fixture.object(
      "VirtualService", "v", spec: "hosts: [a]\nhttp:\n- route: [{destination: {host: a, subset: v2}}]")
    let known = ReferenceRules.Settings(registeredHosts: ["a.default.svc.cluster.local"])
    let plan = Plan(applying: Fixture.changeSet(routes), to: Fixture.stored(rule), settings: known)
    let finding = try #require(plan.findings.first { $0.code == "IST0101" && $0.path.hasSuffix("subset") })
    #expect(finding.severity == .warning && !plan.hasErrors)
    #expect(finding.hint?.hasPrefix("did you mean 'v1'?") == true)
    #expect(finding.path == "spec.http[0].route[0].destination.subset")
    #expect(finding.line == 9)
    let good = Fixture.object("VirtualService", "v", spec: "hosts: [a]\nhttp:\n- route: [{destination: {host: a, subset: v1}}]")
    #expect(Plan(applying: Fixture.changeSet(good + rule), to: [], settings: known).findings.isEmpty)
  }

  @Test func `the hint for a host names the nearest in its namespace`() throws {
    let routes = Fixture.object("VirtualService", "v", spec: "hosts: [a]\nhttp:\n- route: [{destination: {host: reveiws}}]")
    let known = ["reviews.default.svc.cluster.local", "ratings.default.svc.cluster.local", "reveiws.other.svc.cluster.local"]
    let plan = Plan(applying: Fixture.changeSet(routes), to: [], settings: .init(registeredHosts: Set(known)))
    let hint = try #require(plan.findings.first { $0.code == "IST0101" }?.hint)
    #expect(hint.hasPrefix("did you mean 'reviews.default.svc.cluster.local'?"))
  }

  private static let foreign: [(kind: String, spec: String, owner: String?)] = [
    ("VirtualService", "hosts: [b.other.svc.cluster.local]", "other"),
    ("VirtualService", "hosts: [b]", nil), ("VirtualService", "hosts: [b.default.svc.cluster.local]", nil),
    ("VirtualService", "hosts: ['*.other.svc.cluster.local']", "other"),
    ("VirtualService", "hosts: ['*.local']", "every namespace"),
    ("VirtualService", "hosts: [e.example.com]", "other"), ("VirtualService", "hosts: ['*.example.com']", "other"),
    ("VirtualService", "hosts: [own.example.com]", nil), ("VirtualService", "hosts: [nobody.example.com]", nil),
    ("VirtualService", "hosts: [b.other.svc.cluster.local]\nexportTo: ['.']", nil),
    ("VirtualService", "hosts: [b.other.svc.cluster.local]\nexportTo: [default]", nil),
    ("VirtualService", "hosts: [b.other.svc.cluster.local]\nexportTo: [other]", "other"),
    ("VirtualService", "hosts: [b.other.svc.cluster.local]\ngateways: [g]", nil),
    ("VirtualService", "hosts: [b.other.svc.cluster.local]\ngateways: [g, mesh]", "other"),
    ("ServiceEntry", "hosts: [b.other.svc.cluster.local]", "other"), ("ServiceEntry", "hosts: [e.example.com]", nil),
    ("ServiceEntry", "hosts: [b.other.svc.cluster.local]\nexportTo: ['.']", nil),
  ]

  @Test(arguments: foreign.indices) func `with tenants isolated, nobody directs what others send to another's host`(index: Int)
  {
    let (kind, rest, owner) = Self.foreign[index]
    let ports = "ports: [{number: 80, name: http, protocol: HTTP}]\nresolution: DNS"
    let body = kind == "ServiceEntry" ? ports : "http:\n- route: [{destination: {host: b.other.svc.cluster.local}}]"
    let others =
      Fixture.object("ServiceEntry", "e", namespace: "other", spec: "hosts: [e.example.com]\n\(ports)")
      + Fixture.object("ServiceEntry", "o", spec: "hosts: [own.example.com]\n\(ports)")
    func findings(_ namespace: String, isolated: Bool, mesh: String = "") -> [Finding] {
      var settings = ReferenceRules.Settings()
      settings.isolatesTenants = isolated
      let text = Fixture.object(kind, "x", namespace: namespace, spec: "\(rest)\n\(body)")
      let plan = Plan(applying: Fixture.changeSet(text), to: Fixture.stored(others + mesh), settings: settings)
      #expect(plan.hasErrors == plan.findings.contains { $0.code == "MESH0003" }, "\(plan.findings)")
      return plan.findings.filter { $0.code == "MESH0003" }
    }
    let found = findings("default", isolated: true)
    #expect(found.map(\.path) == (owner == nil ? [] : ["spec.hosts[0]"]))
    if let owner { #expect(found.first?.reason.contains("is a host of namespace \(owner), and tenants are isolated") == true) }
    #expect(found.allSatisfy { $0.severity == .error && $0.line > 0 })
    #expect(findings("default", isolated: false).isEmpty)
    // The root namespace is the mesh's own.
    #expect(findings("istio-system", isolated: true).isEmpty)
    let quiet = """
      apiVersion: v1
      kind: ConfigMap
      metadata: {name: istio, namespace: istio-system}
      data: {mesh: "{defaultVirtualServiceExportTo: ['.'], defaultServiceExportTo: ['.']}"}

      """
    if !rest.contains("exportTo") { #expect(findings("default", isolated: true, mesh: quiet).isEmpty) }
  }

  @Test func `what stood before tenants were isolated is found`() {
    let text = Fixture.object(
      "VirtualService", "x", spec: "hosts: [b.other.svc.cluster.local]\nhttp:\n- route: [{destination: {host: b.other}}]")
    let found = ReferenceRules.foreignHosts(in: Fixture.changeSet(text).objects, settings: settings)
    #expect(found.map(\.object) == ["VirtualService default/x"] && found.map(\.severity) == [.error])
  }

  @Test func `a route to an unknown host is a warning that names it`() {
    let routes = Fixture.object("VirtualService", "v", spec: "hosts: [a]\nhttp:\n- route: [{destination: {host: b}}]")
    let plan = Plan(applying: Fixture.changeSet(routes), to: [], settings: settings)
    #expect(!plan.hasErrors)
    #expect(plan.findings.contains { $0.reason.contains("b.default.svc.cluster.local") })
    let registered = ReferenceRules.Settings(registeredHosts: ["b.default.svc.cluster.local"])
    #expect(Plan(applying: Fixture.changeSet(routes), to: [], settings: registered).findings.isEmpty)
  }

  @Test func `a host that its gateway does not serve is a warning`() {
    let servers = "servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [default/*.x.com]}]"
    func codes(_ host: String) -> [String] {
      let rules = "hosts: [\(host)]\ngateways: [g]\nhttp:\n- redirect: {uri: /}"
      let text = Fixture.object("Gateway", "g", spec: servers) + Fixture.object("VirtualService", "v", spec: rules)
      let plan = Plan(applying: Fixture.changeSet(text), to: [], settings: settings)
      return plan.findings.filter { $0.object.hasPrefix("Virtual") }.map(\.code)
    }
    #expect(codes("a.x.com") == [])
    #expect(codes("a.y.com") == ["IST0132"])
  }

  @Test func `many skipped documents do not hide the objects after them`() {
    let foreign = String(repeating: "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n", count: 6_000)
    let changeSet = Fixture.changeSet(foreign + "---\n" + Fixture.object("DestinationRule", "r", spec: "host: a"))
    #expect(changeSet.objects.count == 1)
    #expect(changeSet.findings.count == ConfigLimits.remarksMax)
    let wrong = String(repeating: "---\napiVersion: v1\nkind: Service\nmetadata: {name: d}\nspec: 1\n", count: 600)
    #expect(Fixture.changeSet(wrong).findings.last?.hint == "nothing after this document was read")
  }

  @Test func `a plan says what changes and shows the lines`() {
    let old = Fixture.stored(
      Fixture.object("DestinationRule", "same", spec: "host: a") + Fixture.object("DestinationRule", "other", spec: "host: b"))
    let changes = Fixture.changeSet(
      Fixture.object("DestinationRule", "same", spec: "host: a") + Fixture.object("DestinationRule", "other", spec: "host: c")
        + Fixture.object("DestinationRule", "new", spec: "host: d"))
    let plan = Plan(applying: changes, to: old, settings: settings)
    #expect(plan.changes.map { "\($0.key.name) \($0.action)" } == ["new created", "other updated", "same unchanged"])
    #expect(plan.changes[1].difference.filter { !$0.hasPrefix(" ") } == ["-  host: b", "+  host: c"])
  }

  @Test func `deleting a subset that a route needs is a warning that names the route`() {
    let state = Fixture.stored(
      Fixture.object("DestinationRule", "r", spec: "host: a\nsubsets: [{name: v1}]")
        + Fixture.object("VirtualService", "v", spec: "hosts: [a]\nhttp:\n- route: [{destination: {host: a, subset: v1}}]"))
    let key = ObjectKey(kind: .destinationRule, namespace: "default", name: "r")
    let known = ReferenceRules.Settings(registeredHosts: ["a.default.svc.cluster.local"])
    let plan = Plan(deleting: [key], from: state, settings: known)
    #expect(!plan.hasErrors)
    #expect(plan.findings.map(\.object) == ["VirtualService default/v"])
    let route = ObjectKey(kind: .virtualService, namespace: "default", name: "v")
    #expect(!Plan(deleting: [route], from: state, settings: settings).hasErrors)
    let missing = ObjectKey(kind: .gateway, namespace: "default", name: "none")
    #expect(Plan(deleting: [missing], from: state, settings: settings).findings.first?.reason == "not found")
  }
}
