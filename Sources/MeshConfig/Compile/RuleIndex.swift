/// DestinationRules by namespace and host, merged as Istio merges them (Istio, DestinationRule).
struct RuleIndex {
  /// What one or several rules for a host say together.
  struct Merged {
    /// `namespace/name` of the first rule.
    let name: String
    let host: String
    let exportTo: Set<String>
    let workloadSelector: [String: String]?
    var trafficPolicy: DestinationRule.TrafficPolicy?
    var subsets: [DestinationRule.Subset]

    func subset(_ name: String) -> DestinationRule.Subset? { subsets.first { $0.name == name } }
  }

  /// Rules of one namespace; those of one host in the order they apply.
  private struct Hosts {
    var exact: [String: [Merged]] = [:]
    /// Most specific first.
    var wildcards: [(host: String, rules: [Merged])] = []

    func rules(for host: String) -> [[Merged]] {
      [exact[host] ?? []] + wildcards.filter { HostName.covers($0.host, host) }.map(\.rules)
    }
  }

  /// Keys of the labels that decide whether a rule applies to a client, or how.
  private(set) var clientLabelKeys: Set<String> = []
  private let rootNamespace: String
  private var byNamespace: [String: Hosts] = [:]
  private(set) var findings: [Finding] = []

  init(objects: [StoredObject], settings: MeshSettings) {
    rootNamespace = settings.rootNamespace
    var hosts: [String: [String: [Merged]]] = [:]
    for stored in Self.ordered(objects) {
      guard case .destinationRule(let rule) = stored.object.spec else { continue }
      let namespace = stored.key.namespace
      let host = HostName.resolve(rule.host, namespace: namespace, domain: settings.domain)
      clientLabelKeys.formUnion(rule.clientLabelKeys)
      let merged = Merged(
        name: "\(namespace)/\(stored.key.name)", host: host,
        exportTo: Visibility.resolve(rule.workloadSelector == nil ? rule.exportTo : ["."], own: namespace),
        workloadSelector: rule.workloadSelector, trafficPolicy: rule.trafficPolicy, subsets: rule.subsets)
      add(merged, stored.key, to: &hosts[namespace, default: [:]][host, default: []])
    }
    byNamespace = hosts.mapValues { rules in
      let wildcards = rules.filter { $0.key.hasPrefix("*") }.map { (host: $0.key, rules: $0.value) }
      return Hosts(exact: rules, wildcards: wildcards.sorted { HostName.isMoreSpecific($0.host, $1.host) })
    }
  }

  /// Rules with a workload selector first, then by age.
  private static func ordered(_ objects: [StoredObject]) -> [StoredObject] {
    func hasSelector(_ stored: StoredObject) -> Bool {
      if case .destinationRule(let rule) = stored.object.spec { return rule.workloadSelector != nil }
      return false
    }
    let sorted = objects.sorted(by: StoredObject.isOlder)
    return sorted.filter(hasSelector) + sorted.filter { !hasSelector($0) }
  }

  private mutating func add(_ rule: Merged, _ key: ObjectKey, to rules: inout [Merged]) {
    let first = rules.firstIndex { $0.exportTo == rule.exportTo && $0.workloadSelector == rule.workloadSelector }
    guard let first else {
      rules.append(rule)
      return
    }
    if rules[first].trafficPolicy == nil {
      rules[first].trafficPolicy = rule.trafficPolicy
    } else if rule.trafficPolicy != nil {
      ignored(key, "its trafficPolicy is ignored: \(rules[first].name) already sets one for \(rule.host)")
    }
    for subset in rule.subsets {
      if rules[first].subset(subset.name) == nil {
        rules[first].subsets.append(subset)
      } else {
        ignored(key, "its subset '\(subset.name)' is ignored: \(rules[first].name) already defines it for \(rule.host)")
      }
    }
  }

  private mutating func ignored(_ key: ObjectKey, _ reason: String) {
    findings.append(
      Finding(severity: .warning, code: Finding.Code.schemaWarning, object: key.description, reason: reason))
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

  private func find(
    _ host: String, in namespace: String, where isVisible: (Merged) -> Bool, _ client: ClientScope
  ) -> Merged? {
    for rules in byNamespace[namespace]?.rules(for: host) ?? [] {
      let applies: (Merged) -> Bool = { rule in
        guard let selector = rule.workloadSelector else { return isVisible(rule) }
        return namespace == client.namespace && Labels.match(selector, client.labels)
      }
      if let rule = rules.first(where: applies) { return rule }
    }
    return nil
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
}

enum Labels {
  /// Whether every selected label is present with that value; an empty selector matches.
  static func match(_ selector: [String: String], _ labels: [String: String]) -> Bool {
    selector.allSatisfy { labels[$0.key] == $0.value }
  }
}
