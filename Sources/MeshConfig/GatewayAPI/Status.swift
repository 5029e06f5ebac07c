extension GatewayAPI {
  /// `status` of the objects of this API, as a controller would write it. Computed from the configuration alone.
  public struct Status: Sendable {
    private let byKey: [ObjectKey: YAMLNode]

    /// The status of one object; nil when this mesh has nothing to say about it.
    public func status(of key: ObjectKey) -> YAMLNode? { byKey[key] }

    /// - Parameters:
    ///   - services: what requests can be sent to, as a snapshot lists it.
    ///   - address: where this mesh's gateways are reached.
    ///   - nodes: every address that Gateways may ask for; nil: that one alone.
    public init(
      objects: [StoredObject], services: [Service], domain: String, address: String, nodes: Set<String>? = nil
    ) {
      let ordered = objects.sorted(by: StoredObject.isOlder)
      let topology = Topology(objects: ordered, services: services, domain: domain)
      byKey = StatusWriter(topology: topology, address: address, nodes: nodes ?? [address]).all
    }
  }
}

extension GatewayAPI.Address {
  static let ip = "IPAddress"
}

extension GatewayAPI.Gateway {
  /// The IP addresses that it wants to be reached at; empty: any.
  var askedAddresses: [String] {
    addresses.filter { $0.type == GatewayAPI.Address.ip && !$0.value.isEmpty }.map(\.value)
  }
}

/// Writes what a topology says in the form of the API.
private struct StatusWriter {
  let topology: GatewayAPI.Topology
  let address: String
  let nodes: Set<String>

  var all: [ObjectKey: YAMLNode] {
    var result: [ObjectKey: YAMLNode] = [:]
    for key in topology.classes { result[key] = YAMLNode.map([("conditions", Self.conditions([.accepted]))]) }
    for (key, spec) in topology.gateways { result[key] = gateway(key, spec) }
    for (key, accepted) in topology.listenerSets { result[key] = listenerSet(key, accepted) }
    let routes = Dictionary(grouping: topology.parents, by: \.route)
    for (key, parents) in routes { result[key] = YAMLNode.map([("parents", .list(parents.map(Self.parent)))]) }
    for policy in topology.policies { result[policy.key] = self.policy(policy) }
    return result
  }

  private func gateway(_ key: ObjectKey, _ spec: GatewayAPI.Gateway) -> YAMLNode {
    let own = topology.listeners.filter { $0.owner == key }
    let all = topology.listeners.filter { $0.gateway == key }
    let accepted: GatewayAPI.Condition
    if let other = spec.addresses.first(where: { $0.type != GatewayAPI.Address.ip }) {
      accepted = GatewayAPI.Condition(
        "Accepted", false, "UnsupportedAddress", "addresses of type \(other.type) are not known here")
    } else if own.allSatisfy(\.accepted.isTrue) {
      accepted = .accepted
    } else {
      let some = own.contains { $0.accepted.isTrue }
      accepted = GatewayAPI.Condition("Accepted", some, "ListenersNotValid", "some listeners are not accepted")
    }
    let isServed = all.contains(where: \.isServed)
    let asked = spec.askedAddresses
    let missing = asked.filter { !nodes.contains($0) }
    let programmed =
      !missing.isEmpty
      ? GatewayAPI.Condition("Programmed", false, "AddressNotUsable", "no node has \(missing.joined(separator: ", "))")
      : isServed
        ? GatewayAPI.Condition.programmed : GatewayAPI.Condition("Programmed", false, "Invalid", "no listener is served")
    let sets = topology.listenerSets.filter { set in
      set.value.isTrue && topology.listeners.contains { $0.owner == set.key && $0.gateway == key }
    }
    var conditions = [accepted, programmed]
    if let references = topology.gatewayReferences[key] { conditions.append(references) }
    return YAMLNode.map([
      (
        "addresses",
        .list(
          (asked.isEmpty ? [address] : asked.filter(nodes.contains)).map {
            YAMLNode.map([("type", .text(GatewayAPI.Address.ip)), ("value", .text($0))])
          })
      ),
      ("attachedListenerSets", .number(sets.count)), ("conditions", Self.conditions(conditions)),
      ("listeners", .list(own.map(Self.listener))),
    ])
  }

  private func listenerSet(_ key: ObjectKey, _ accepted: GatewayAPI.Condition) -> YAMLNode {
    let own = topology.listeners.filter { $0.owner == key }
    var programmed = GatewayAPI.Condition.programmed
    var ownAccepted = accepted
    if !accepted.isTrue {
      programmed = GatewayAPI.Condition("Programmed", false, accepted.reason, accepted.message)
    } else if !own.contains(where: \.isServed) {
      ownAccepted = GatewayAPI.Condition("Accepted", false, "ListenersNotValid", "no listener is served")
      programmed = GatewayAPI.Condition("Programmed", false, "ListenersNotValid", "no listener is served")
    }
    return YAMLNode.map([
      ("conditions", Self.conditions([ownAccepted, programmed])), ("listeners", .list(own.map(Self.listener))),
    ])
  }

  private static func listener(_ listener: GatewayAPI.Topology.ServedListener) -> YAMLNode {
    .map([
      ("attachedRoutes", .number(listener.attachedRoutes.count)),
      ("conditions", conditions([listener.accepted, listener.conflicted, listener.programmed, listener.resolved])),
      ("name", .text(listener.spec.name)),
      (
        "supportedKinds",
        .list(listener.supportedKinds.map { .map([("group", .text($0.group)), ("kind", .text($0.kind))]) })
      ),
    ])
  }

  private static func parent(_ parent: GatewayAPI.Topology.ParentStatus) -> YAMLNode {
    .map([
      ("conditions", conditions([parent.accepted, parent.resolved])),
      ("controllerName", .text(GatewayAPI.controllerName)),
      ("parentRef", reference(parent.reference, own: parent.route.namespace)),
    ])
  }

  private static func reference(_ reference: GatewayAPI.ObjectReference, own: String) -> YAMLNode {
    var entries: [(String, YAMLNode)] = [
      ("group", .text(reference.group)), ("kind", .text(reference.kind)), ("name", .text(reference.name)),
      ("namespace", .text(reference.namespace ?? own)),
    ]
    if let port = reference.port { entries.append(("port", .number(Int(port)))) }
    if let section = reference.sectionName { entries.append(("sectionName", .text(section))) }
    return .map(entries)
  }

  /// One ancestor for each Gateway that leads to a target of the policy.
  private func policy(_ policy: GatewayAPI.BackendPolicy) -> YAMLNode {
    let targets = Set(policy.targets.map(\.service))
    var ancestors: Set<ObjectKey> = []
    for item in topology.attachments {
      let route = topology.routes[item.route]
      let backends = route.rules.flatMap(\.backends) + route.connectionRules.flatMap(\.backends)
      let leads = backends.contains {
        targets.contains("\($0.reference.name).\($0.reference.namespace ?? route.key.namespace)")
      }
      if leads { ancestors.insert(topology.listeners[item.listener].gateway) }
    }
    let conditions = Self.conditions([policy.accepted, policy.resolved])
    return YAMLNode.map([
      (
        "ancestors",
        .list(
          ancestors.sorted().map { key in
            let gateway = GatewayAPI.ObjectReference(group: GatewayAPI.group, kind: "Gateway", name: key.name)
            return YAMLNode.map([
              ("ancestorRef", Self.reference(gateway, own: key.namespace)), ("conditions", conditions),
              ("controllerName", .text(GatewayAPI.controllerName)),
            ])
          })
      )
    ])
  }

  private static func conditions(_ conditions: [GatewayAPI.Condition]) -> YAMLNode {
    .list(
      conditions.map { item in
        .map([
          ("message", .text(item.message)), ("observedGeneration", .number(1)), ("reason", .text(item.reason)),
          ("status", .text(item.isTrue ? "True" : "False")), ("type", .text(item.type)),
        ])
      })
  }
}
