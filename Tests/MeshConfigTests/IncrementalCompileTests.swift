import FoundationEssentials
import Primitives
import Testing

@testable import MeshConfig

/// The compiler that keeps what did not change, against a full compilation of the same state.
@Suite struct IncrementalCompileTests {
  private struct State {
    var objects: [ObjectKey: StoredObject] = [:]
    var workloads: [String: WorkloadRecord] = [:]
    var revision: UInt64 = 0
    /// The mesh's own configuration is another, after which snapshots begin anew.
    var beganAnew = false

    mutating func put(_ text: String, _ compiler: inout SnapshotCompiler) throws {
      let changeSet = Fixture.changeSet(text)
      try #require(!changeSet.hasErrors, "\(changeSet.findings)")
      revision += 1
      for object in changeSet.objects {
        let stored = StoredObject(object, created: objects[object.key]?.created ?? revision)
        objects[object.key] = stored
        compiler.put(stored)
        if object.key == MeshConfiguration.key { beganAnew = true }
      }
    }

    mutating func put(_ workload: WorkloadRecord, _ compiler: inout SnapshotCompiler) {
      workloads[workload.key] = workload
      compiler.put(workload)
    }

    func full(_ settings: MeshSettings) -> (snapshot: MeshSnapshot, findings: [Finding]) {
      MeshSnapshot.compile(
        revision: revision, registryVersion: 1, objects: objects.values.sorted { $0.key < $1.key },
        workloads: workloads.values.sorted { $0.key < $1.key }, settings: settings)
    }
  }

  @Test(arguments: 1...6) func `any sequence of edits gives what a full compilation gives`(seed: UInt64) throws {
    var draws = SeededGenerator(seed: seed)
    let settings = try Fixture.settings()
    var compiler = SnapshotCompiler(settings: settings)
    var state = State()
    state.put(try Fixture.workload("s0"), &compiler)
    state.put(
      try Fixture.workload(nil, "gw", namespace: "default", labels: ["istio": "ingressgateway"], isGateway: true), &compiler)
    var last: MeshSnapshot?
    for step in 0..<40 {
      for _ in 0...draws.below(3) { try edit(&state, &compiler, &draws) }
      let (snapshot, findings) = compiler.compile(revision: state.revision, registryVersion: 1)
      let expected = state.full(settings)
      #expect(Rendering(snapshot).lines == Rendering(expected.snapshot).lines, "seed \(seed), step \(step)")
      #expect(Set(findings) == Set(expected.findings), "seed \(seed), step \(step)")
      if let last, !state.beganAnew { checkChanges(from: last, to: snapshot) }
      state.beganAnew = false
      call(snapshot, &draws)
      last = snapshot
    }
  }

  /// Single changes take the short way, which compiles the named hosts again and nothing else.
  @Test(arguments: 1...6) func `rules changed one at a time give what a full compilation gives`(seed: UInt64) throws {
    var draws = SeededGenerator(seed: seed)
    let settings = try Fixture.settings()
    var compiler = SnapshotCompiler(settings: settings)
    var state = State()
    for index in 0..<6 {
      for namespace in ["default", "other"] {
        try state.put(
          Fixture.object(
            "Service", "s\(index)", namespace: namespace,
            spec: "selector: {app: s\(index)}\nports: [{name: http, port: 80, targetPort: 9080}]"), &compiler)
      }
      try state.put(destinationRule(UInt64(index), "default", &draws), &compiler)
    }
    try state.put(
      Fixture.object(
        "Gateway", "g0",
        spec: "selector: {istio: ingressgateway}\nservers:\n- port: {number: 8080, name: http, protocol: HTTP}\n  hosts: ['*']"),
      &compiler)
    for (service, version) in [("s0", "v0"), ("s0", "v1"), ("s1", "v1")] {
      state.put(try Fixture.workload(service, version), &compiler)
      state.put(try Fixture.workload(service, version, namespace: "other"), &compiler)
    }
    state.put(
      try Fixture.workload(nil, "gw", namespace: "default", labels: ["istio": "ingressgateway"], isGateway: true), &compiler)
    _ = compiler.compile(revision: state.revision, registryVersion: 1)
    var short = 0
    for step in 0..<60 {
      let namespace = ["default", "other"][Int(draws.below(2))]
      let rules = state.objects.keys.filter { $0.kind == .virtualService }.sorted()
      if draws.below(4) == 0, !rules.isEmpty {
        let key = rules[Int(draws.below(UInt64(rules.count)))]
        state.objects[key] = nil
        state.revision += 1
        compiler.remove(key)
      } else {
        try state.put(virtualService(draws.below(6), namespace, &draws), &compiler)
      }
      let (snapshot, findings) = compiler.compile(revision: state.revision, registryVersion: 1)
      let expected = state.full(settings)
      #expect(Rendering(snapshot).lines == Rendering(expected.snapshot).lines, "seed \(seed), step \(step)")
      #expect(Set(findings) == Set(expected.findings), "seed \(seed), step \(step)")
      if compiler.work.destinationsAsked < 20 { short += 1 }
      call(snapshot, &draws)
    }
    #expect(short > 5, "the short way was hardly taken")
  }

  /// Mostly one change for a snapshot, of every kind, so that what is narrowed to that change is what is compared.
  @Test(arguments: 1...Self.drawnSequences) func `any single change of any kind gives what a full compilation gives`(
    seed: UInt64
  ) throws {
    let settings = try Fixture.settings()
    var objects = DrawnObjects(draws: SeededGenerator(seed: seed))
    var compiler = SnapshotCompiler(settings: settings)
    var state = State()
    for (service, namespace) in [("s0", "default"), ("s0", "other"), ("s1", "third"), ("s2", "default")] {
      state.put(try Fixture.workload(service, "here", namespace: namespace), &compiler)
    }
    state.put(
      try Fixture.workload(nil, "gw", namespace: "default", labels: ["istio": "ingressgateway"], isGateway: true), &compiler)
    for _ in 0..<12 { try state.put(objects.service(), &compiler) }
    var last: MeshSnapshot?
    for step in 0..<50 {
      var changes = ""
      for _ in 0...(objects.draws.below(4) == 0 ? 2 : 0) { changes += try change(&state, &compiler, &objects) }
      let (snapshot, findings) = compiler.compile(revision: state.revision, registryVersion: 1)
      let expected = state.full(settings)
      let (lines, wanted) = (Rendering(snapshot).lines, Rendering(expected.snapshot).lines)
      if lines != wanted || Set(findings) != Set(expected.findings) {
        let other = lines.filter { !wanted.contains($0) } + ["but"] + wanted.filter { !lines.contains($0) }
        Issue.record("seed \(seed), step \(step): \(changes)\n\(other.joined(separator: "\n"))")
        return
      }
      if let last { checkChanges(from: last, to: snapshot) }
      call(snapshot, &objects.draws)
      last = snapshot
    }
  }

  private static var drawnSequences: UInt64 {
    ProcessInfo.processInfo.environment["MESH_COMPILE_SEQUENCES"].flatMap { UInt64($0) } ?? 12
  }

  /// Returns what was changed.
  private func change(_ state: inout State, _ compiler: inout SnapshotCompiler, _ objects: inout DrawnObjects) throws -> String
  {
    let removes = objects.draws.below(5) == 0
    if objects.draws.below(6) == 0 {
      let keys = state.workloads.keys.sorted()
      guard removes, !keys.isEmpty else {
        let workload = try objects.workload()
        state.put(workload, &compiler)
        return workload.key
      }
      let key = objects.one(of: keys)
      state.workloads[key] = nil
      compiler.removeWorkload(key)
      return "without \(key)"
    }
    let keys = state.objects.keys.sorted()
    guard removes, !keys.isEmpty else {
      let text = objects.object()
      try state.put(text, &compiler)
      return text
    }
    let key = keys[Int(objects.draws.below(UInt64(keys.count)))]
    state.objects[key] = nil
    state.revision += 1
    compiler.remove(key)
    return "without \(key)"
  }

  /// Some of what there is, as requests would.
  private func call(_ snapshot: MeshSnapshot, _ draws: inout SeededGenerator) {
    for index in snapshot.clusters.indices where draws.below(4) == 0 { _ = snapshot.clusters[index].endpoints }
    for table in snapshot.outbound + snapshot.gateways.map(\.table) {
      for host in table.ports.flatMap(\.virtualHosts) where draws.below(4) == 0 { _ = host.compiled }
    }
  }

  /// What is not listed as changed is the same value at the same index.
  private func checkChanges(from old: MeshSnapshot, to new: MeshSnapshot) {
    guard let changes = new.changes else {
      Issue.record("no changes are told")
      return
    }
    #expect(changes.follows(old.changes))
    let listed = Set(changes.clusters)
    for index in new.clusters.indices where !listed.contains(index) {
      #expect(
        old.clusters.indices.contains(index)
          && Rendering.text(old.clusters.glimpse(index)) == Rendering.text(new.clusters.glimpse(index)))
    }
  }

  private func edit(_ state: inout State, _ compiler: inout SnapshotCompiler, _ draws: inout SeededGenerator) throws {
    let index = draws.below(6)
    let namespace = ["default", "other"][Int(draws.below(2))]
    switch draws.below(14) {
    case 0:
      let type = ["http", "tcp", "grpc"][Int(draws.below(3))]
      try state.put(
        Fixture.object(
          "Service", "s\(index)", namespace: namespace,
          spec: "selector: {app: s\(index)}\nports: [{name: \(type), port: \(80 + draws.below(2)), targetPort: 9080}]"),
        &compiler)
    case 1...2: try state.put(virtualService(index, namespace, &draws), &compiler)
    case 3: try state.put(destinationRule(index, namespace, &draws), &compiler)
    case 4:
      try state.put(
        Fixture.object(
          "Gateway", "g\(index % 2)", namespace: namespace,
          spec:
            "selector: {istio: ingressgateway}\nservers:\n- port: {number: \(8080 + index % 3), name: http, protocol: HTTP}\n  hosts: ['*']"
        ), &compiler)
    case 5:
      try state.put(
        Fixture.object(
          "ServiceEntry", "e\(index)", namespace: namespace,
          spec: """
            hosts: [e\(index).example.com]
            ports: [{number: 80, name: http, protocol: HTTP}]
            resolution: STATIC
            location: MESH_INTERNAL
            workloadSelector: {labels: {app: s\(index)}}
            """), &compiler)
    case 6:
      let keys = state.objects.keys.sorted()
      guard !keys.isEmpty else { return }
      let key = keys[Int(draws.below(UInt64(keys.count)))]
      state.objects[key] = nil
      state.revision += 1
      compiler.remove(key)
      if key == MeshConfiguration.key { state.beganAnew = true }
    case 12:
      let label = draws.below(2) == 0 ? "mesh: 'yes'" : "mesh: 'no'"
      try state.put("apiVersion: v1\nkind: Namespace\nmetadata: {name: \(namespace), labels: {\(label)}}\n", &compiler)
    case 13:
      let selectors = [
        "[]", "[{matchLabels: {mesh: 'yes'}}]", "[{matchExpressions: [{key: mesh, operator: NotIn, values: ['no']}]}]",
        "[{matchLabels: {kubernetes.io/metadata.name: default}}]",
      ][Int(draws.below(4))]
      try state.put(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    discoverySelectors: \(selectors)\n",
        &compiler)
    case 7:
      let keys = state.workloads.keys.sorted()
      guard !keys.isEmpty else { return }
      let key = keys[Int(draws.below(UInt64(keys.count)))]
      state.workloads[key] = nil
      compiler.removeWorkload(key)
    default:
      let node = "n\(draws.below(3) + 1)"
      var workload = try Fixture.workload(
        draws.below(5) == 0 ? nil : "s\(index)", "v\(draws.below(3))", node: node, namespace: namespace,
        port: 9080 + UInt16(draws.below(8) == 0 ? 1 : 0), locality: "local/\(["a", "b"][Int(draws.below(2))])/1")
      workload.health = draws.below(3) == 0 ? .unhealthy : .healthy
      if draws.below(20) == 0 { workload.serviceAccount = "no account" }
      state.put(workload, &compiler)
    }
  }

  private func virtualService(_ index: UInt64, _ namespace: String, _ draws: inout SeededGenerator) -> String {
    let host = ["s\(index)", "e\(index).example.com", "*.example.com", "unknown.org"][Int(draws.below(4))]
    let gateways = ["[mesh]", "[default/g0]", "[mesh, default/g1]"][Int(draws.below(3))]
    let source = draws.below(3) == 0 ? "\n  - sourceLabels: {app: s0}" : "\n  - uri: {prefix: /a\(draws.below(3))}"
    return Fixture.object(
      "VirtualService", "v\(draws.below(4))", namespace: namespace,
      spec: """
        hosts: ['\(host)']
        gateways: \(gateways)
        http:
        - match:\(source)
          route:
          - destination: {host: s\(draws.below(6)), subset: v\(draws.below(3))}
        - route:
          - destination: {host: s\(draws.below(6)).default.svc.cluster.local}
        """)
  }

  private func destinationRule(_ index: UInt64, _ namespace: String, _ draws: inout SeededGenerator) -> String {
    let host = ["s\(index)", "*.default.svc.cluster.local", "e\(index).example.com"][Int(draws.below(3))]
    let selector = draws.below(4) == 0 ? "workloadSelector: {matchLabels: {app: s0}}" : "exportTo: ['*']"
    return Fixture.object(
      "DestinationRule", "d\(draws.below(4))", namespace: namespace,
      spec: """
        host: '\(host)'
        \(selector)
        trafficPolicy:
          outlierDetection: {consecutive5xxErrors: \(draws.below(5) + 1)}
        subsets:
        - {name: v\(draws.below(3)), labels: {version: v\(draws.below(3))}}
        """)
  }
}

/// A snapshot in words that do not depend on indices.
struct Rendering {
  private(set) var lines: [String] = []

  init(_ snapshot: MeshSnapshot) {
    lines += snapshot.services.map { "service \($0)" }
    lines += snapshot.workloads.map {
      "workload \($0.key) \($0.principal) \($0.canonicalService) \($0.labels.sorted { $0.key < $1.key })"
    }.sorted()
    lines += snapshot.clusters.map { Self.text($0, snapshot) }.sorted()
    for local in snapshot.localWorkloads {
      lines.append("local \(snapshot.workloads[local.workload].key) \(local.ports) \(local.services) \(local.health)")
      lines += Self.text(snapshot.outbound[local.outbound], snapshot)
    }
    for table in snapshot.outbound { lines += ["table \(table.fallback)"] + Self.text(table, snapshot) }
    for table in snapshot.tcp { lines += ["connections"] + Self.text(table, snapshot) }
    for gateway in snapshot.gateways {
      lines += Self.text(gateway.role, snapshot)
      lines.append("gateway \(gateway.port) \(gateway.gateways) \(gateway.httpsRedirectHosts)")
      lines += Self.text(gateway.table, snapshot)
    }
    for workload in snapshot.workloads.indices {
      let key = snapshot.workloads[workload].key
      if snapshot.workloads.index(ofKey: Array(key.utf8)) != workload { lines.append("\(key) is not found by its key") }
    }
  }

  static func text(_ cluster: Cluster) -> String {
    "\(cluster.name) \(cluster.service ?? -1) \(cluster.protocol) \(cluster.discovery) \(cluster.destinationRule ?? "-") "
      + "\(cluster.outlierDetection?.consecutive5xx ?? 0) "
      + cluster.endpoints.map { "\($0.key):\($0.address):\($0.port):\($0.priority):\($0.health):\($0.workload ?? -1)" }.joined(
        separator: ",")
  }

  static func text(_ cluster: Cluster, _ snapshot: MeshSnapshot) -> String {
    let endpoints = cluster.endpoints.map { endpoint in
      let workload = endpoint.workload.map { snapshot.workloads[$0].key } ?? "external"
      return "\(endpoint.key) \(endpoint.address):\(endpoint.port) \(endpoint.priority) \(endpoint.health) \(workload) "
        + "\(endpoint.isLocal) \(endpoint.mesh?.serverName ?? "") \(endpoint.locality)"
    }
    return "cluster \(cluster.name) \(cluster.service ?? -1) \(cluster.protocol) \(cluster.discovery) "
      + "\(cluster.destinationRule ?? "-") \(cluster.outlierDetection?.consecutive5xx ?? 0) \(endpoints)"
  }

  private static func text(_ table: TCPRouteTable, _ snapshot: MeshSnapshot) -> [String] {
    table.ports.flatMap { port in
      port.services.enumerated().map { index, service in
        let isFound = port.hosts[Array(service.host.utf8)] == index
        return "  tcp \(port.port) \(service.host) \(service.protocol) \(service.address) \(service.blocks) \(isFound)"
          + text(service.content.glimpse.routes, snapshot)
      } + port.serverNames.map { "  \($0.pattern.text)" + text([$0.route], snapshot) }
    }
  }

  private static func text(_ role: GatewayListener.Role, _ snapshot: MeshSnapshot) -> [String] {
    switch role {
    case .tcp(let routes), .tls(_, let routes): ["  tcp" + text(routes, snapshot)]
    case .passthrough(let names): names.map { "  \($0.pattern.text)" + text([$0.route], snapshot) }
    default: []
    }
  }

  private static func text(_ routes: [TCPRoute], _ snapshot: MeshSnapshot) -> String {
    routes.map { route in
      " \(route.origin.map(\.description) ?? "-") \(route.subnets)" + route.destinations.map { text($0, snapshot) }.joined()
    }.joined()
  }

  private static func text(_ destination: WeightedDestination, _ snapshot: MeshSnapshot) -> String {
    let leads = destination.cluster.map {
      "\(snapshot.clusters.name($0)) \(snapshot.clusters.glimpse($0).destinationRule ?? "-")"
    }
    return " \(destination.clusterName)=\(destination.weight) → \(leads ?? "nothing")"
  }

  private static func text(_ table: RouteTable, _ snapshot: MeshSnapshot) -> [String] {
    table.ports.flatMap { port in
      port.virtualHosts.flatMap { host -> [String] in
        let found = host.domains.allSatisfy { domain in
          domain.hasPrefix("*") || port.exact[Array(domain.utf8)].map { port.virtualHosts[$0].name == host.name } ?? false
        }
        return ["  \(port.port) \(host.name) \(host.domains) \(found)"]
          + host.routes.map { route in
            var text =
              "    \(route.name) \(route.timeout as Any) \(route.origin.map(\.description) ?? "-") \(route.matches.count) \(route.matches.map { "\($0.path as Any)" })"
            if case .forward(let destinations) = route.action {
              for destination in destinations { text += Self.text(destination, snapshot) }
            }
            return text
          }
      } + port.wildcards.map { "  *\(String(decoding: $0.suffix, as: UTF8.self)) → \(port.virtualHosts[$0.virtualHost].name)" }
    }
  }
}
