import Testing

@testable import MeshConfig

/// What analyzers are given, and what objects ask of them.
@Suite struct AnalysisInputTests {
  private func source(_ text: String) -> ConfigSource { ConfigSource(name: "a.yaml", bytes: Array(text.utf8)) }
  private func findings(_ analyzer: String, _ input: AnalysisInput) throws -> [Finding] {
    try #require(Analyzer.all.first { $0.name == analyzer }).findings(in: input)
  }

  private static let gateway = """
    apiVersion: networking.istio.io/v1
    kind: Gateway
    metadata: {name: g}
    spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 9999, name: a, protocol: HTTP}, hosts: ['*']}]}

    """

  @Test func `an object of a file takes the place of the live one of its name`() throws {
    let live = Self.gateway.replacing("name: g", with: "name: g, namespace: default")
    for (namespace, expected) in [("default", 0), ("other", 2), ("", 2)] {
      var input = AnalysisInput()
      input.add(source(live))
      input.add(source(Self.gateway), namespace: namespace)
      let found = try findings("gateway.ConflictingGatewayAnalyzer", input)
      #expect(found.count == expected, "\(namespace): \(found)")
    }
  }

  @Test func `where nodes open the ports of gateways no Service has to`() throws {
    var input = AnalysisInput()
    input.addDefaultIngressGateway()
    input.add(source(Self.gateway))
    #expect(try findings("gateway.IngressGatewayPortAnalyzer", input).map(\.code) == ["IST0162"])
    input.nodesOpenPorts = true
    #expect(try findings("gateway.IngressGatewayPortAnalyzer", input).isEmpty)
  }

  @Test func `an object may ask not to be told of a code, or of any`() throws {
    for (codes, expected) in [("IST0145", true), ("'IST0101, IST0145'", true), ("'*'", true), ("IST0101", false)] {
      var input = AnalysisInput()
      input.add(
        source(
          Self.gateway.replacing(
            "name: g", with: "name: g, namespace: default, annotations: {galley.istio.io/analyze-suppress: \(codes)}")))
      input.add(source(Self.gateway.replacing("name: g", with: "name: h, namespace: default")))
      let found = try findings("gateway.ConflictingGatewayAnalyzer", input)
      #expect(found.map(\.object).sorted() == ["Gateway default/g", "Gateway default/h"])
      #expect(found.filter { input.suppresses($0) }.map(\.object) == (expected ? ["Gateway default/g"] : []))
    }
  }

  @Test func `the MeshConfig is that of the mesh's ConfigMap unless another is given`() throws {
    let telemetry = """
      apiVersion: telemetry.istio.io/v1
      kind: Telemetry
      metadata: {name: t, namespace: default}
      spec: {accessLogging: [{}]}
      ---

      """
    let map = """
      apiVersion: v1
      kind: ConfigMap
      metadata: {name: istio, namespace: istio-system}
      data: {mesh: "{defaultProviders: {accessLogging: [envoy]}}"}

      """
    var input = AnalysisInput()
    input.add(source(telemetry))
    #expect(try findings("telemetry.ProviderAnalyzer", input).map(\.code) == ["IST0157"])
    input.add(source(map))
    #expect(try findings("telemetry.ProviderAnalyzer", input).isEmpty)
    input.use(meshConfig: source("{}"))
    #expect(try findings("telemetry.ProviderAnalyzer", input).map(\.code) == ["IST0157"])
  }

  @Test(arguments: [
    ("Service", "networking.istio.io/exportTo: '.,shop'", nil),
    ("Service", "networking.istio.io/exportTo: 'a b'", "IST0125"),
    ("Service", "networking.istio.io/exportto: '.'", "IST0108"),
    ("Service", "networking.istio.io/traffic-distribution: PreferClose", nil),
    ("Service", "networking.istio.io/traffic-distribution: Near", "IST0125"),
    ("Service", "sidecar.istio.io/inject: 'true'", "IST0135"),
    ("Service", "traffic.sidecar.istio.io/includeInboundPorts: '80'", "IST0107"),
    ("Service", "kubernetes.io/ingress.class: istio", "IST0107"),
    ("Service", "example.com/anything: x", nil), ("Service", "galley.istio.io/analyze-suppress: IST0108", nil),
    ("Namespace", "networking.istio.io/exportTo: '*'", "IST0107"),
    ("Pod", "traffic.sidecar.istio.io/includeInboundPorts: '80, 81'", nil),
    ("Pod", "traffic.sidecar.istio.io/includeInboundPorts: '80, x'", "IST0125"),
    ("Pod", "traffic.sidecar.istio.io/includeOutboundIPRanges: '*'", nil),
    ("Pod", "traffic.sidecar.istio.io/excludeOutboundIPRanges: 10.0.0.1", "IST0125"),
    ("Pod", "sidecar.istio.io/interceptionMode: MAGIC", "IST0125"),
    ("Pod", "status.sidecar.istio.io/port: '0'", nil), ("Pod", "status.sidecar.istio.io/port: '65536'", "IST0125"),
    ("Pod", "readiness.status.sidecar.istio.io/periodSeconds: '-1'", "IST0125"),
    ("Pod", "ambient.istio.io/whatever: x", nil),
  ])
  func `annotations are known, in place and possible`(kind: String, annotation: String, code: String?) throws {
    var input = AnalysisInput()
    input.add(source("apiVersion: v1\nkind: \(kind)\nmetadata:\n  name: x\n  annotations: {\(annotation)}\n"))
    let found = try findings("annotations.K8sAnalyzer", input)
    // A deprecated annotation may stand in the wrong place, too.
    let codes = Set(found.map(\.code)).subtracting(code == "IST0135" ? ["IST0107"] : [])
    #expect(codes == Set([code].compactMap { $0 }), "\(found)")
    #expect(found.allSatisfy { $0.line == 5 && $0.object == "\(kind) x" })
    if code == "IST0108" { #expect(found.first?.reason.contains("did you mean networking.istio.io/exportTo?") == true) }
  }

  @Test func `a match that an earlier one takes is a warning at apply and a remark of analysis`() throws {
    let rules = "hosts: [a]\nhttp:\n- match: [{port: 1}, {port: 1}]\n  route: [{destination: {host: a}}]"
    let finding = try #require(
      Fixture.changeSet(Fixture.object("VirtualService", "v", spec: rules)).findings.first { $0.code == "IST0131" })
    #expect(finding.severity == .warning && finding.asAnalyzed.severity == .info)
  }

  @Test(arguments: [
    ("virtualservce", "did you mean 'virtualservice'?"), ("gatway", "did you mean 'gateway'?"),
    ("HTTPRoutes.x", "did you mean 'httproutes'?"), ("pods", "use one of virtualservice, "),
  ])
  func `a name that means no kind is answered with the nearest`(name: String, hint: String) {
    #expect(ObjectKind(named: name) == nil)
    #expect(ObjectKind.hint(forUnknown: name).hasPrefix(hint), "\(ObjectKind.hint(forUnknown: name))")
  }

  @Test(arguments: ["HTTPRoute", "GRPCRoute", "TCPRoute"])
  func `a route of the Gateway API to what is not there is a warning that says which`(kind: String) {
    let version = kind == "TCPRoute" ? "v1alpha2" : "v1"
    let route = """
      apiVersion: gateway.networking.k8s.io/\(version)
      kind: \(kind)
      metadata: {name: r, namespace: default}
      spec: {parentRefs: [{name: g}], rules: [{backendRefs: [{name: a, port: 1}, {name: reveiws, port: 1}]}]}

      """
    let known = ReferenceRules.Settings(
      registeredHosts: ["a.default.svc.cluster.local", "reviews.default.svc.cluster.local"])
    let found = Plan(applying: Fixture.changeSet(route), to: [], settings: known).findings
    #expect(found.map(\.code) == ["IST0101", "IST0101"] && found.allSatisfy { $0.severity == .warning && $0.line == 4 })
    #expect(found.map(\.path) == ["spec.parentRefs[0].name", "spec.rules[0].backendRefs[1].name"])
    #expect(found.last?.hint?.hasPrefix("did you mean 'reviews.default.svc.cluster.local'?") == true)
  }
}
