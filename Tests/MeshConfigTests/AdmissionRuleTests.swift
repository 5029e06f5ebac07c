import Testing

@testable import MeshConfig

/// Rules of Istio's admission beside those of `ValidationTests`, kind by kind: what is refused, what only warns, and what must not
/// be refused although it looks odd.
@Suite struct AdmissionRuleTests {
  private static let item = "- route: [{destination: {host: a}}]"
  private static let route = "  route: [{destination: {host: a}}]"
  private static let entry = "hosts: [a.com]\nresolution: STATIC\n"
  private static func server(_ rest: String, _ protocol: String = "HTTP", hosts: String = "'*'") -> String {
    "servers: [{port: {number: 80, name: a, protocol: \(`protocol`)}, hosts: [\(hosts)]\(rest)}]"
  }
  private static func locality(_ setting: String, _ rest: String = "") -> String {
    "host: a\ntrafficPolicy: {\(rest)loadBalancer: {localityLbSetting: {\(setting)}}}"
  }

  private func document(_ kind: String, _ spec: String, annotations: String = "{}", name: String = "x") -> String {
    let version = ObjectKind(named: kind)?.apiVersion ?? "v1"
    let body = spec.split(separator: "\n", omittingEmptySubsequences: false).map { "  \($0)" }.joined(separator: "\n")
    return
      "apiVersion: \(version)\nkind: \(kind)\nmetadata: {name: \(name), namespace: default, annotations: \(annotations)}\nspec:\n\(body)\n"
  }

  // MARK: Refused

  @Test(arguments: [
    ("VirtualService", "hosts: [a]\nhttp:\n\(item)\n  retries: {attempts: -1}", "cannot be negative"),
    ("VirtualService", "hosts: [a]\nhttp:\n\(item)\n  retries: {attempts: 0, retryOn: 5xx}", "switched off"),
    ("VirtualService", "hosts: [a]\nhttp:\n\(item)\n  retries: {perTryTimeout: 1s}", "switched off"),
    ("VirtualService", "hosts: [a]\nhttp:\n\(item)\n  retries: {attempts: 0, retryRemoteLocalities: false}", "switched off"),
    ("VirtualService", "hosts: [a]\nhttp:\n\(item)\n  rewrite: {uriRegexRewrite: {match: a}}", "required"),
    (
      "VirtualService", "hosts: [a]\nhttp:\n\(item)\n  rewrite: {authority: b}\n  headers: {request: {set: {Host: c}}}",
      "sets the authority already"
    ),
    ("VirtualService", "hosts: [a]\nhttp:\n- match: [{headers: {x: {prefix: ''}}}]\n\(route)", "must not be empty"),
    ("VirtualService", "hosts: [a]\nhttp:\n- match: [{withoutHeaders: {x: {prefix: ''}}}]\n\(route)", "must not be empty"),
    ("VirtualService", "hosts: [a]\nhttp:\n- match: [{queryParams: {x: {prefix: ''}}}]\n\(route)", "must not be empty"),
    ("VirtualService", "hosts: [a]\nhttp:\n\(item)\n  corsPolicy: {allowOrigins: [{exact: ''}]}", "must not be empty"),
    ("VirtualService", "hosts: [a]\nhttp:\n\(item)\n  timeout: 1500us", "parts of a millisecond"),
    (
      "VirtualService",
      "hosts: [a]\ngateways: [g, mesh]\nhttp:\n- match: [{headers: {'@request.auth.claims.sub': {exact: x}}}]\n\(route)",
      "without gateway, or for the mesh too"
    ),
    ("DestinationRule", "host: a\nsubsets: [{name: v1, labels: {'-x': y}}]", "not a label key"),
    ("DestinationRule", "host: a\nsubsets: [{name: v1, labels: {x: 'a b'}}]", "not a label value"),
    ("DestinationRule", "host: a\ntrafficPolicy: {tunnel: {targetHost: 'a b', targetPort: 1}}", "host name or an IP address"),
    (
      "DestinationRule", "host: a\ntrafficPolicy: {tls: {mode: SIMPLE, credentialName: c, caCertificates: /x}}",
      "exclude each other"
    ),
    (
      "DestinationRule", "host: a\ntrafficPolicy: {tls: {mode: MUTUAL, credentialName: c, caCrl: /x}}", "exclude each other"
    ),
    (
      "DestinationRule", "host: a\ntrafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true, caCertificates: /x}}",
      "excludes caCertificates"
    ),
    (
      "DestinationRule", "host: a\ntrafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true, credentialName: x}}",
      "excludes caCertificates"
    ),
    (
      "DestinationRule",
      "host: a\ntrafficPolicy: {tls: {mode: MUTUAL, insecureSkipVerify: true, credentialName: x, subjectAltNames: [a]}}",
      "excludes caCertificates"
    ),
    ("DestinationRule", locality("distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]"), "exclude each other"),
    (
      "DestinationRule", locality("failover: [{from: a, to: b}], failoverPriority: [topology.kubernetes.io/zone]"),
      "exclude each other"
    ),
    ("DestinationRule", locality("distribute: [{from: a, to: {b: 0, c: 100}}]"), "0"),
    ("DestinationRule", locality("distribute: [{from: a, to: {b/*: 50, b: 50}}]"), "covered by one before it"),
    (
      "DestinationRule", locality("distribute: [{from: a, to: {b: 100}}, {from: a/z, to: {b: 100}}]"),
      "covered by one before it"
    ),
    ("DestinationRule", locality("distribute: [{from: '*/a', to: {b: 100}}]"), "at the end"),
    ("DestinationRule", locality("distribute: [{from: a//b, to: {b: 100}}]"), "empty region"),
    (
      "DestinationRule", "host: a\ntrafficPolicy: {loadBalancer: {zoneAwareLbSetting: {minClusterSiz: 3}}}",
      "unknown field 'minClusterSiz'"
    ),
    ("DestinationRule", "host: a\ntrafficPolicy: {loadBalancer: {backendUtilization: {weightUpdatePeriod: 3}}}", "expected"),
    (
      "DestinationRule", "host: a\ntrafficPolicy: {connectionPool: {http: {http2KeepAlive: {timeout: 1us}}}}", "too short"
    ),
    (
      "EnvoyFilter", "configPatches: [{applyTo: CLUSTER, match: {cluster: {nam: a}}, patch: {operation: REMOVE}}]",
      "unknown field 'nam'"
    ),
    (
      "EnvoyFilter",
      "configPatches: [{applyTo: HTTP_ROUTE, match: {routeConfiguration: {vhost: {route: {action: GO}}}}, patch: {operation: REMOVE}}]",
      "is not one of"
    ),
    (
      "EnvoyFilter",
      "configPatches: [{applyTo: LISTENER, match: {listener: {filterChain: {filter: {subFilter: {name: 3}}}}}, patch: {operation: REMOVE}}]",
      "expected a string"
    ),
    (
      "EnvoyFilter", "configPatches: [{applyTo: CLUSTER, match: {proxy: {proxyVersion: '['}}, patch: {operation: REMOVE}}]",
      "RE2"
    ),
    ("ProxyConfig", "environmentVariables: {A: \(String(repeating: "x", count: 2049))}", "at most 2048"),
    ("WorkloadEntry", "address: a.com\nlocality: \(String(repeating: "x", count: 2049))", "at most 2048"),
    ("RequestAuthentication", "jwtRules: [{issuer: a, outputClaimToHeaders: [{header: 'x!', claim: c}]}]", "not a header name"),
    ("Telemetry", "targetRefs: [{group: 'A B', kind: Service, name: a}]", "not an API group"),
    (
      "Gateway",
      "servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialNames: []}}]",
      "must have an item"
    ),
    ("Gateway", server("", hosts: "a"), "short name"),
    ("Gateway", server("", hosts: "'*foo.com'"), "whole labels"),
    ("Gateway", "servers: [{port: {number: 80, name: a, protocol: HTTP, targetPort: 8}, hosts: ['*']}]", "no effect"),
    ("Gateway", server(", tls: {mode: PASSTHROUGH}", "TCP"), "no TLS settings"),
    ("ServiceEntry", "hosts: [a.com, b.com]\nresolution: DNS\nports: [{number: 5, name: a}]", "cannot be told apart"),
    ("ServiceEntry", "hosts: [a.com]\nports: [{number: 5, name: 'a b'}]", "not a port name"),
    ("ServiceEntry", "\(entry)endpoints: [{address: 1.1.1.1, labels: {x: 'a b'}}]", "not a label value"),
    ("WorkloadEntry", "address: 'a b'", "not a host name or IP address"),
    ("WorkloadEntry", "address: a.com\nlabels: {x: 'a b'}", "not a label value"),
    ("WorkloadGroup", "metadata: {labels: {x: 'a b'}}\ntemplate: {}", "not a label value"),
    ("WorkloadGroup", "template: {labels: {x: 'a b'}}", "not a label value"),
    ("Sidecar", "egress: [{hosts: [./reviews]}]", "whole host name"),
    ("Sidecar", "egress: [{hosts: ['./*foo.com']}]", "wildcard for whole labels"),
    ("Sidecar", "egress: [{port: {number: 80, name: 'a b', protocol: HTTP}, hosts: ['*/*']}]", "not a port name"),
    ("Sidecar", "egress: [{port: {number: 80, protocol: HTTP, targetPort: 8}, hosts: ['*/*']}]", "no effect"),
    (
      "Sidecar", "egress: [{port: {number: 0, protocol: HTTP}, bind: 'unix:///x', captureMode: IPTABLES, hosts: ['*/*']}]",
      "DEFAULT or NONE"
    ),
    ("Sidecar", "egress: [{port: {number: 80, protocol: HTTP}, bind: 'unix:///x', hosts: ['*/*']}]", "must be 0"),
    ("Sidecar", "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.com}}", "port is required"),
    ("Sidecar", "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: 'a b', port: {number: 1}}}", "host name"),
    (
      "Sidecar", "ingress: [{port: {number: 80, protocol: HTTPS}, tls: {mode: ISTIO_MUTUAL}}]",
      "does not support mode ISTIO_MUTUAL"
    ),
    ("Telemetry", "tracing: [{customTags: {'': {literal: {value: x}}}}]", "needs a name"),
    ("WasmPlugin", "url: a\nvmConfig: {env: [{name: A, value: x}, {name: A, value: y}]}", "stands twice"),
    ("WasmPlugin", "url: a\npluginName: \(String(repeating: "x", count: 257))", "at most 256"),
    ("WasmPlugin", "url: a\nimagePullSecret: \(String(repeating: "x", count: 254))", "at most 253"),
  ])
  func `it is refused`(kind: String, spec: String, reason: String) {
    let errors = Fixture.changeSet(document(kind, spec)).findings.filter { $0.severity == .error }
    #expect(errors.contains { $0.reason.contains(reason) }, "\(errors.map(\.description))")
    #expect(errors.allSatisfy { $0.line > 0 })
  }

  @Test func `the name of a Gateway has no dots`() {
    let found = Fixture.changeSet(document("Gateway", Self.server(""), name: "a.b")).findings
    #expect(found.contains { $0.severity == .error && $0.path == "metadata.name" && $0.line == 3 }, "\(found)")
  }

  @Test(arguments: [
    ("VirtualService", "hosts: [a]\nhttp:\n\(item)", "{istio.io/dry-run: 'true'}", "has no dry run"),
    ("VirtualService", "hosts: [a]\nhttp:\n\(item)", "{internal.istio.io/webhook-always-reject: ''}", "asks to be refused"),
    ("AuthorizationPolicy", "action: DENY\nrules: [{}]", "{istio.io/dry-run: maybe}", "must be"),
    ("AuthorizationPolicy", "action: DENY\nrules: [{}]", "{istio.io/dry-run: 'T'}", nil),
    ("AuthorizationPolicy", "action: DENY\nrules: [{}]", "{istio.io/dry-run: '0'}", nil),
    ("Service", "ports: [{port: 1}]", "{istio.io/dry-run: 'true'}", nil),
  ])
  func `annotations that admission reads`(kind: String, spec: String, annotations: String, reason: String?) {
    let errors = Fixture.changeSet(document(kind, spec, annotations: annotations)).findings.filter { $0.severity == .error }
    #expect(errors.isEmpty == (reason == nil), "\(errors)")
    if let reason { #expect(errors.contains { $0.reason.contains(reason) && $0.path.hasPrefix("metadata.annotations") }) }
  }

  // MARK: Accepted

  @Test(arguments: [
    ("VirtualService", "hosts: [a]\nhttp:\n- redirect: {uri: /x, redirectCode: 0}"),
    ("VirtualService", "hosts: [a]\nhttp:\n\(item)\n  retries: {attempts: 0}"),
    ("VirtualService", "hosts: [a]\nhttp:\n- match: [{uri: {prefix: ''}}]\n\(route)"),
    ("DestinationRule", "host: a\ntrafficPolicy: {outlierDetection: {consecutiveLocalOriginFailures: 0}}"),
    ("DestinationRule", "host: a\ntrafficPolicy: {tunnel: {targetHost: '::1', targetPort: 1}}"),
    ("DestinationRule", "host: a\ntrafficPolicy: {tls: {mode: MUTUAL, insecureSkipVerify: true, credentialName: x}}"),
    (
      "DestinationRule",
      locality("failover: [{from: a, to: b}], failoverPriority: [version]", "outlierDetection: {}, ")
    ),
    ("DestinationRule", locality("distribute: [{from: a/*, to: {a/b: 30, a/c/*: 30, a/*: 40}}]")),
    ("Gateway", server(", tls: {}")), ("Gateway", server(", tls: {httpsRedirect: true}", "HTTP2")),
    ("Gateway", server("", hosts: "1.2.3.4, ns/*.a.com, '*'")),
    ("ServiceEntry", "\(entry)workloadSelector: {labels: {a: b}}"),
    ("WorkloadEntry", "address: a.com"), ("WorkloadEntry", "address: 'unix:///x'"),
    (
      "Sidecar",
      "egress: [{hosts: ['*/*']}]\noutboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.com, port: {number: 1}}}"
    ),
  ])
  func `it is not refused`(kind: String, spec: String) {
    let changes = Fixture.changeSet(document(kind, spec))
    #expect(!changes.hasErrors && changes.objects.count == 1, "\(changes.findings.map(\.description))")
  }

  @Test(arguments: [
    (
      "VirtualService",
      "hosts: [a]\nhttp:\n- match: [{uri: {prefix: /a}}]\n\(route)\n- match: [{uri: {prefix: /ab}}]\n\(route)", "IST0131"
    ),
    (
      "VirtualService",
      "hosts: [a]\nhttp:\n- match: [{uri: {prefix: /a}}]\n\(route)\n- match: [{uri: {exact: /a/b}}]\n\(route)", "IST0131"
    ),
    (
      "VirtualService",
      "hosts: [a]\nhttp:\n- match: [{name: p, uri: {regex: a}}]\n\(route)\n- match: [{name: q, uri: {regex: a}}]\n\(route)",
      "IST0130"
    ),
    (
      "VirtualService",
      "hosts: [a.com]\ntls:\n- match: [{sniHosts: [a.com]}]\n\(route)\n- match: [{sniHosts: [a.com]}]\n\(route)", "IST0130"
    ),
    ("VirtualService", "hosts: [a]\ntcp:\n\(item)\n- match: [{port: 1}]\n\(route)", "IST0130"),
    ("VirtualService", "hosts: [a]\ntcp:\n- match: [{port: 1}, {port: 1}]\n\(route)", "IST0131"),
    ("DestinationRule", locality("failoverPriority: [version]"), "IST0133"),
    ("DestinationRule", "host: a\nworkloadSelector: {}", "IST0133"),
    ("Gateway", server(", tls: {mode: PASSTHROUGH, credentialName: c}", "TLS"), "IST0133"),
    ("ServiceEntry", "hosts: ['*foo.com']\nports: [{number: 80, name: http, protocol: HTTP}]", "IST0133"),
    ("ServiceEntry", "hosts: [a.com]\nworkloadSelector: {labels: {a: b}}\nresolution: DNS", "IST0133"),
    ("ServiceEntry", "hosts: [a.com]\nports: [{number: 80, name: http, protocol: HTTP, targetPort: 8}]", "IST0133"),
    ("WorkloadEntry", "network: far", "IST0133"),
    ("Sidecar", "workloadSelector: {}\negress: [{hosts: ['*/*']}]", "IST0133"),
    ("PeerAuthentication", "selector: {}\nmtls: {mode: STRICT}", "IST0133"),
    ("Telemetry", "tracing: [{}, {}]", "IST0133"),
  ])
  func `it is accepted with a warning`(kind: String, spec: String, code: String) {
    let changes = Fixture.changeSet(document(kind, spec))
    #expect(!changes.hasErrors && changes.findings.contains { $0.code == code && $0.line > 0 }, "\(changes.findings)")
  }

  @Test(arguments: [
    "hosts: [a]\nhttp:\n- match: [{uri: {prefix: /a}, method: {exact: GET}}]\n\(route)\n- match: [{uri: {prefix: /ab}}]\n\(route)",
    "hosts: [a]\nhttp:\n- match: [{uri: {prefix: /ab}}]\n\(route)\n- match: [{uri: {prefix: /a}}]\n\(route)",
    "hosts: [a]\nhttp:\n- match: [{uri: {prefix: /a}}]\n\(route)\n- match: [{uri: {prefix: /ab}, ignoreUriCase: true}]\n\(route)",
    // Gateways ask for everything last.
    "hosts: [a]\ngateways: [g]\nhttp:\n- match: [{uri: {prefix: /}}]\n\(route)\n- match: [{uri: {prefix: /a}}]\n\(route)",
    "hosts: [a]\nhttp:\n- match: [{port: 1}]\n\(route)\n\(item)",
    "hosts: [a]\ntcp:\n- match: [{port: 1}]\n\(route)\n\(item)",
  ])
  func `rules that are reached are not reported`(spec: String) {
    let found = Fixture.changeSet(document("VirtualService", spec)).findings
    #expect(!found.contains { $0.code == "IST0130" || $0.code == "IST0131" }, "\(found)")
  }
}
