import FoundationEssentials
import Testing

@testable import MeshConfig

/// Status checks of the Gateway API's own conformance suite, where its data is present.
private enum GatewayCases {
  static let root: String? = {
    let named = ProcessInfo.processInfo.environment["MESH_CONFORMANCE"]
    let here = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath().path
    let beside = here.components(separatedBy: "/Tests/").first.map { "\($0)/../shared/conformance" }
    return [named, beside].compactMap { $0 }.map { "\($0)/gateway-api" }.first {
      FileManager.default.fileExists(atPath: "\($0)/cases.json")
    }
  }()

  static func text(_ path: String) throws -> String {
    guard let root else { return "" }
    let text = String(decoding: try Data(contentsOf: URL(fileURLWithPath: "\(root)/\(path)")), as: UTF8.self)
    return text.replacing("{GATEWAY_CLASS_NAME}", with: GatewayAPI.className)
      .replacing("{GATEWAY_CONTROLLER_NAME}", with: GatewayAPI.controllerName)
  }
}

extension YAMLNode {
  fileprivate var text: String {
    switch value {
    case .string(let text): text
    case .int(let number): String(number)
    case .bool(let flag): String(flag)
    default: ""
    }
  }
  fileprivate var items: [YAMLNode] { if case .sequence(let items) = value { items } else { [] } }
  fileprivate func string(_ key: String) -> String { self[key]?.text ?? "" }
}

@Suite(.enabled(if: GatewayCases.root != nil, "no conformance data (gateway-api not found)"))
struct GatewayStatusConformanceTests {
  /// A state and what its objects hear of themselves.
  private struct World {
    let status: GatewayAPI.Status
    let keys: Set<ObjectKey>

    func status(_ kind: ObjectKind, _ name: String) -> YAMLNode? {
      let parts = name.split(separator: "/").map(String.init)
      guard parts.count == 2 else { return nil }
      return status.status(of: ObjectKey(kind: kind, namespace: parts[0], name: parts[1]))
    }
  }

  private static let generated = """
    apiVersion: v1
    kind: Secret
    metadata: {name: %NAME%, namespace: %NAMESPACE%}
    type: kubernetes.io/tls
    stringData:
      tls.crt: "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n"
      tls.key: "-----BEGIN PRIVATE KEY-----\\nAAAA\\n-----END PRIVATE KEY-----\\n"
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: %NAME%, namespace: %NAMESPACE%}
    data: {ca.crt: "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n"}
    ---

    """
  /// Objects that the suite makes at run time; each name as a Secret and as a ConfigMap.
  private static let generatedNames = [
    ("gateway-conformance-web-backend", "certificate"), ("gateway-conformance-web-backend", "web-backend-cm"),
    ("gateway-conformance-infra", "tls-validity-checks-certificate"),
    ("gateway-conformance-infra", "tls-validity-checks-ca-certificate"),
    ("gateway-conformance-infra", "tls-validity-checks-per-port-ca-certificate"),
    ("gateway-conformance-infra", "tls-checks-ca-certificate"), ("gateway-conformance-infra", "tls-checks-certificate"),
    ("gateway-conformance-infra", "tls-checks-client-certificate"),
    ("gateway-conformance-infra", "tls-passthrough-checks-certificate"),
    ("gateway-conformance-app-backend", "tls-passthrough-checks-certificate"),
    ("gateway-conformance-infra", "tls-terminate-checks-certificate"), ("gateway-conformance-infra", "mismatch-ca-certificate"),
  ]

  private func world(_ manifests: [String]) throws -> World {
    let extra = Self.generatedNames.map { namespace, name in
      Self.generated.replacing("%NAMESPACE%", with: namespace).replacing("%NAME%", with: name)
    }
    let sources = ["base/manifests.yaml"] + manifests
    let changeSet = ChangeSet(
      try sources.map { ConfigSource(name: $0, bytes: Array(try GatewayCases.text($0).utf8)) }
        + [ConfigSource(name: "generated", bytes: Array(extra.joined().utf8))])
    let errors = changeSet.findings.filter { $0.severity == .error }
    #expect(errors.isEmpty, "\(errors.map(\.description).joined(separator: "\n"))")
    let objects = changeSet.objects.enumerated().map { StoredObject($0.element, created: UInt64($0.offset + 1)) }
    let compiled = MeshSnapshot.compile(
      revision: 1, registryVersion: 1, objects: objects, workloads: [], settings: try Fixture.settings())
    return World(
      status: GatewayAPI.Status(
        objects: objects, services: compiled.snapshot.services, domain: "cluster.local", address: "127.0.0.1"),
      keys: Set(objects.map(\.key)))
  }

  @Test func `every status check of the suite holds`() throws {
    let cases = try #require(YAMLParser.parse(Array(try GatewayCases.text("cases.json").utf8)).documents.first).items
    var (passed, failed, skipped) = (0, 0, 0)
    for item in cases {
      let features = item["features"]?.items.map(\.text) ?? []
      let checks = item["checks"]?.items ?? []
      // Not implemented by Istio either, and the test for implementations that cannot end TLS.
      let name = item.string("test")
      if features.contains("SupportUDPRoute") || name == "TLSRouteListenerTerminateNotSupported" {
        skipped += checks.count
        continue
      }
      if checks.isEmpty { continue }
      let world = try self.world(item["manifests"]?.items.map(\.text) ?? [])
      for check in checks {
        if let problem = problem(check, world) {
          failed += 1
          Issue.record("\(name): \(check.string("assert")): \(problem)")
        } else {
          passed += 1
        }
      }
    }
    print("SUITE gateway-api-status \(passed) \(failed) \(skipped)")
  }

  /// What is not as the check says, or nil.
  private func problem(_ check: YAMLNode, _ world: World) -> String? {
    let name = check.string("assert")
    switch name {
    case "GatewayAndHTTPRoutesMustBeAccepted": return routesAccepted(check, .httpRoute, world)
    case "GatewayAndTCPRoutesMustBeAccepted": return routesAccepted(check, .tcpRoute, world)
    case "GatewayAndTLSRoutesMustBeAccepted": return routesAccepted(check, .tlsRoute, world)
    case "GatewayAndRoutesMustBeAccepted", "RoutesAndParentMustBeAccepted":
      return routesAccepted(check, ObjectKind(rawValue: check.string("routeType")) ?? .httpRoute, world)
    case "HTTPRouteMustHaveResolvedRefsConditionsTrue":
      return condition(.httpRoute, check.string("routeNN"), check.string("gwNN"), "ResolvedRefs", "True", "ResolvedRefs", world)
    case "HTTPRouteMustHaveCondition": return condition(check, .httpRoute, world)
    case "TCPRouteMustHaveCondition": return condition(check, .tcpRoute, world)
    case "TLSRouteMustHaveCondition": return condition(check, .tlsRoute, world)
    case "HTTPRouteMustHaveParents": return parents(check, .httpRoute, world)
    case "TCPRouteMustHaveParents": return parents(check, .tcpRoute, world)
    case "HTTPRouteMustHaveNoAcceptedParents":
      let all = world.status(.httpRoute, check.string("routeName"))?["parents"]?.items ?? []
      return all.contains { has($0, "Accepted", "True", "") } ? "accepted" : nil
    case "GatewayMustHaveCondition":
      return condition(on: world.status(.kubernetesGateway, check.string("gwNN")), check["expectedCondition"])
    case "ListenerSetMustHaveCondition":
      return condition(on: world.status(.listenerSet, check.string("lsNN")), check["expectedCondition"])
    case "BackendTLSPolicyMustHaveCondition":
      let ancestors = world.status(.backendTLSPolicy, check.string("policyNN"))?["ancestors"]?.items ?? []
      let ancestor = ancestors.first { reference($0["ancestorRef"]) == check.string("gwNN") }
      return condition(on: ancestor, check["condition"])
    case "GatewayMustHaveLatestConditions": return nil
    case "GatewayStatusMustHaveListeners":
      return listeners(check, world.status(.kubernetesGateway, check.string("gwNN")))
    case "ListenerSetStatusMustHaveListeners": return listeners(check, world.status(.listenerSet, check.string("lsNN")))
    case "GatewayListenerMustHaveConditions":
      return conditions(check, world.status(.kubernetesGateway, check.string("gwName")), [check.string("lName")])
    case "ListenerSetListenersMustHaveConditions":
      return conditions(
        check, world.status(.listenerSet, check.string("lsName")), check["listenerNames"]?.items.map(\.text) ?? [])
    case "GatewayMustHaveZeroRoutes":
      let all = world.status(.kubernetesGateway, check.string("gwName"))?["listeners"]?.items ?? []
      return all.allSatisfy { $0.string("attachedRoutes") == "0" } ? nil : "routes are attached"
    case "GatewayMustHaveAttachedListeners":
      let found = world.status(.kubernetesGateway, check.string("gwName"))?.string("attachedListenerSets")
      return found == check.string("expectedCount") ? nil : "found \(found ?? "no status")"
    default: return "unknown assertion"
    }
  }

  private func reference(_ node: YAMLNode?) -> String { "\(node?.string("namespace") ?? "")/\(node?.string("name") ?? "")" }

  private func has(_ node: YAMLNode, _ type: String, _ status: String, _ reason: String) -> Bool {
    (node["conditions"]?.items ?? []).contains {
      $0.string("type") == type && $0.string("status") == status && (reason.isEmpty || $0.string("reason") == reason)
    }
  }

  private func condition(on node: YAMLNode?, _ wanted: YAMLNode?) -> String? {
    guard let node, let wanted else { return "no status" }
    if has(node, wanted.string("Type"), wanted.string("Status"), wanted.string("Reason")) { return nil }
    return "\(wanted.string("Type"))=\(wanted.string("Status"))/\(wanted.string("Reason")) not among \(shown(node))"
  }

  private func shown(_ node: YAMLNode) -> String {
    (node["conditions"]?.items ?? []).map { "\($0.string("type"))=\($0.string("status"))/\($0.string("reason"))" }
      .joined(separator: " ")
  }

  private func condition(_ check: YAMLNode, _ kind: ObjectKind, _ world: World) -> String? {
    let wanted = check["condition"]
    return condition(
      kind, check.string("routeNN"), check.string("gwNN"), wanted?.string("Type") ?? "", wanted?.string("Status") ?? "",
      wanted?.string("Reason") ?? "", world)
  }

  private func condition(
    _ kind: ObjectKind, _ route: String, _ parent: String, _ type: String, _ status: String, _ reason: String, _ world: World
  ) -> String? {
    let parents = (world.status(kind, route)?["parents"]?.items ?? []).filter { reference($0["parentRef"]) == parent }
    if parents.contains(where: { has($0, type, status, reason) }) { return nil }
    return "\(route) at \(parent): no \(type)=\(status)/\(reason) in \(parents.map(shown))"
  }

  private func routesAccepted(_ check: YAMLNode, _ kind: ObjectKind, _ world: World) -> String? {
    let isSet = check["resource"]?.string("resource") == "ListenerSet"
    let parent = check["gw"]?.string("gateway") ?? check["resource"]?.string("name") ?? ""
    let status = world.status(isSet ? .listenerSet : .kubernetesGateway, parent)
    guard let status else { return "\(parent) has no status" }
    for listener in status["listeners"]?.items ?? [] {
      let wanted = check["gw"]?["listeners"]?.items.map(\.text) ?? []
      if !wanted.isEmpty && !wanted.contains(listener.string("name")) { continue }
      for type in ["Accepted", "ResolvedRefs", "Programmed"] where !has(listener, type, "True", "") {
        return "listener \(listener.string("name")): \(shown(listener))"
      }
    }
    for route in check["routeNNs"]?.items ?? [] {
      if let problem = condition(kind, route.text, parent, "Accepted", "True", "Accepted", world) { return problem }
    }
    return nil
  }

  private func parents(_ check: YAMLNode, _ kind: ObjectKind, _ world: World) -> String? {
    let route = check.string("routeName")
    let found = world.status(kind, route)?["parents"]?.items ?? []
    for wanted in check["parents"]?.items ?? [] {
      let named = wanted["ParentRef"]
      let match = found.first {
        $0["parentRef"]?.string("name") == named?.string("Name") && $0["parentRef"]?.string("kind") == named?.string("Kind")
          && (named?.string("SectionName").isEmpty ?? true
            || $0["parentRef"]?.string("sectionName") == named?.string("SectionName"))
      }
      guard let match else { return "\(route) has no parent \(named?.string("Name") ?? "")" }
      if match.string("controllerName") != wanted.string("ControllerName") {
        return "controller \(match.string("controllerName"))"
      }
      for item in wanted["Conditions"]?.items ?? [] { if let problem = condition(on: match, item) { return problem } }
    }
    return found.count == check["parents"]?.items.count ? nil : "\(found.count) parents"
  }

  private func listeners(_ check: YAMLNode, _ status: YAMLNode?) -> String? {
    guard let found = status?["listeners"]?.items else { return "no status" }
    let wanted = check["listeners"]?.items ?? []
    if found.count != wanted.count { return "\(found.count) listeners" }
    for item in wanted {
      guard let listener = found.first(where: { $0.string("name") == item.string("Name") }) else {
        return "no \(item.string("Name"))"
      }
      if listener.string("attachedRoutes") != item.string("AttachedRoutes") {
        return "\(item.string("Name")): \(listener.string("attachedRoutes")) routes"
      }
      let kinds = listener["supportedKinds"]?.items.map { $0.string("kind") } ?? []
      let names = item["SupportedKinds"]?.items.map { $0.string("Kind") } ?? []
      if names.isEmpty != kinds.isEmpty || !names.allSatisfy(kinds.contains) { return "\(item.string("Name")): kinds \(kinds)" }
      for condition in item["Conditions"]?.items ?? [] {
        if let problem = self.condition(on: listener, condition) { return "\(item.string("Name")): \(problem)" }
      }
    }
    return nil
  }

  private func conditions(_ check: YAMLNode, _ status: YAMLNode?, _ names: [String]) -> String? {
    for name in names {
      let listener = status?["listeners"]?.items.first { $0.string("name") == name }
      for wanted in check["conditions"]?.items ?? [] {
        if let problem = condition(on: listener, wanted) { return "\(name): \(problem)" }
      }
    }
    return nil
  }
}
