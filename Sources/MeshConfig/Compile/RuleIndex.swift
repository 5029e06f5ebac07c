/// DestinationRules by namespace and host, merged as Istio merges them (Istio, DestinationRule).
struct RuleIndex: Sendable {
  /// What one or several rules for a host say together. Compared by identity: made anew when one of the rules changes.
  final class Merged: Sendable {
    /// `namespace/name` of the first rule.
    let name: String
    let host: String
    let exportTo: Set<String>
    let workloadSelector: [String: String]?
    let trafficPolicy: DestinationRule.TrafficPolicy?
    let subsets: [DestinationRule.Subset]
    /// Whether endpoint priorities are computed from the client's labels.
    let usesClientLabels: Bool

    fileprivate init(_ draft: Draft) {
      name = draft.name
      host = draft.host
      exportTo = draft.exportTo
      workloadSelector = draft.workloadSelector
      trafficPolicy = draft.trafficPolicy
      subsets = draft.subsets
      let policies = [draft.trafficPolicy] + draft.subsets.map(\.trafficPolicy)
      usesClientLabels = policies.contains { policy in
        let blocks = [policy?.blocks] + (policy?.portLevelSettings.map { Optional($0.blocks) } ?? [])
        return blocks.contains { !($0?.loadBalancer?.locality?.failoverPriority.isEmpty ?? true) }
      }
    }

    func subset(_ name: String) -> DestinationRule.Subset? { subsets.first { $0.name == name } }
  }

  fileprivate struct Draft {
    let name: String
    let host: String
    let exportTo: Set<String>
    let workloadSelector: [String: String]?
    var trafficPolicy: DestinationRule.TrafficPolicy?
    var subsets: [DestinationRule.Subset]
  }

  private struct Place: Hashable {
    let namespace: String
    let host: String
  }

  /// The rules for one host in one namespace, in the order they apply.
  private struct Group {
    /// What is merged here, oldest first.
    let objects: [HeldObject]
    let rules: [Merged]
    let clientLabelKeys: Set<String>
    let findings: [Finding]
  }

  private let settings: MeshSettings
  private var groups: [Place: Group] = [:]
  private var places: [ObjectKey: Place] = [:]
  private var byNamespace: [String: HostIndex<[Merged]>] = [:]
  /// Keys of the labels that decide whether a rule applies to a client, or how.
  private(set) var clientLabelKeys: Set<String> = []
  private(set) var findings: [Finding] = []

  init(settings: MeshSettings) { self.settings = settings }

  private var rootNamespace: String { settings.rootNamespace }

  /// Takes these objects as they are now. Returns the hosts and wildcards whose rules are other than they were.
  mutating func update(_ changed: Set<ObjectKey>, _ objects: HeldObjects) -> Set<String> {
    var members: [Place: [HeldObject]] = [:]
    for key in changed {
      if let place = places.removeValue(forKey: key) {
        members[place, default: groups[place]?.objects ?? []].removeAll { $0.stored.key == key }
      }
      guard let held = objects[key], case .destinationRule(let rule) = held.stored.object.spec else { continue }
      let host = HostName.resolve(rule.host, namespace: key.namespace, domain: settings.domain)
      let place = Place(namespace: key.namespace, host: host)
      places[key] = place
      members[place, default: groups[place]?.objects ?? []].append(held)
    }
    for (place, found) in members {
      let group = found.isEmpty ? nil : group(found.sorted(by: HeldObject.isOlder), host: place.host)
      groups[place] = group
      byNamespace[place.namespace, default: HostIndex()][place.host] = group?.rules
    }
    clientLabelKeys = groups.values.reduce(into: []) { if !$1.clientLabelKeys.isEmpty { $0.formUnion($1.clientLabelKeys) } }
    findings = groups.values.filter { !$0.findings.isEmpty }.sorted { HeldObject.isOlder($0.objects[0], $1.objects[0]) }
      .flatMap(\.findings)
    return Set(members.keys.map(\.host))
  }

  /// Rules with a workload selector first, then by age.
  private func group(_ objects: [HeldObject], host: String) -> Group {
    let rules = objects.compactMap { held -> (held: HeldObject, rule: DestinationRule)? in
      guard case .destinationRule(let rule) = held.stored.object.spec else { return nil }
      return (held, rule)
    }
    let ordered = rules.filter { $0.rule.workloadSelector != nil } + rules.filter { $0.rule.workloadSelector == nil }
    var drafts: [Draft] = []
    var findings: [Finding] = []
    for (held, rule) in ordered {
      let key = held.stored.key
      let draft = Draft(
        name: "\(key.namespace)/\(key.name)", host: host,
        exportTo: Visibility.resolve(
          rule.workloadSelector == nil ? rule.exportTo : ["."], own: key.namespace,
          byDefault: settings.exportTo.destinationRules),
        workloadSelector: rule.workloadSelector, trafficPolicy: rule.trafficPolicy, subsets: rule.subsets)
      findings += Self.add(draft, key, to: &drafts)
    }
    return Group(
      objects: objects, rules: drafts.map(Merged.init),
      clientLabelKeys: rules.reduce(into: []) { $0.formUnion($1.rule.clientLabelKeys) }, findings: findings)
  }

  /// Merges a rule into the first one that the same clients see.
  private static func add(_ rule: Draft, _ key: ObjectKey, to rules: inout [Draft]) -> [Finding] {
    let first = rules.firstIndex { $0.exportTo == rule.exportTo && $0.workloadSelector == rule.workloadSelector }
    guard let first else {
      rules.append(rule)
      return []
    }
    var findings: [Finding] = []
    func ignored(_ reason: String) {
      findings.append(Finding(severity: .warning, code: Finding.Code.schemaWarning, object: key.description, reason: reason))
    }
    if rules[first].trafficPolicy == nil {
      rules[first].trafficPolicy = rule.trafficPolicy
    } else if rule.trafficPolicy != nil {
      ignored("its trafficPolicy is ignored: \(rules[first].name) already sets one for \(rule.host)")
    }
    for subset in rule.subsets {
      if rules[first].subsets.contains(where: { $0.name == subset.name }) {
        ignored("its subset '\(subset.name)' is ignored: \(rules[first].name) already defines it for \(rule.host)")
      } else {
        rules[first].subsets.append(subset)
      }
    }
    return findings
  }

  /// The rule in force for a client calling `host` of a service in `serviceNamespace`. The first level with a match wins.
  func rule(forHost host: String, serviceNamespace: String, client: ClientScope) -> Merged? {
    let own = client.namespace
    if let rule = find(host, in: own, where: { own != rootNamespace || $0.exportTo == [own] }, client) { return rule }
    if serviceNamespace != own,
      let rule = find(host, in: serviceNamespace, where: { Visibility.allows($0.exportTo, own) }, client)
    {
      return rule
    }
    return find(host, in: rootNamespace, where: { Visibility.allows($0.exportTo, own) }, client)
  }

  private func find(_ host: String, in namespace: String, where isVisible: (Merged) -> Bool, _ client: ClientScope) -> Merged? {
    byNamespace[namespace]?.first(covering: host) { rules in
      rules.first { rule in
        guard let selector = rule.workloadSelector else { return isVisible(rule) }
        return namespace == client.namespace && Labels.match(selector, client.labels)
      }
    }
  }
}

extension DestinationRule {
  fileprivate var clientLabelKeys: [String] {
    let policies = [trafficPolicy] + subsets.map(\.trafficPolicy)
    let blocks = policies.compactMap { $0 }.flatMap { [$0.blocks] + $0.portLevelSettings.map(\.blocks) }
    let priorities = blocks.flatMap { $0.loadBalancer?.locality?.failoverPriority ?? [] }
    return (workloadSelector ?? [:]).keys.sorted() + priorities.map { String($0.prefix { $0 != "=" }) }
  }
}

/// The clients whose view is compiled: a namespace, and the labels that some rule asks for.
struct ClientScope: Hashable {
  var namespace: String
  var labels: [String: String]
  /// Gateways see everything, whatever a Sidecar says.
  var isGateway = false
  /// The `egress` of the client's Sidecar whose own listener this is about; nil: all that the client sees.
  var egress: Int?
  /// The Gateway whose own certificate its backends are shown.
  var gateway: ObjectKey?
}

enum Labels {
  /// Whether every selected label is present with that value; an empty selector matches.
  static func match(_ selector: [String: String], _ labels: [String: String]) -> Bool {
    selector.allSatisfy { labels[$0.key] == $0.value }
  }
}
