/// Which endpoints are preferred by where they are (Istio, DestinationRule).
///
/// Priorities act only together with outlier detection, without which a failing near endpoint would keep all traffic, or where
/// the service itself asks for it (`traffic-distribution`); `distribute` always does, and then there are no priorities.
struct LocalityPriority {
  let client: Locality
  let clientLabels: [String: String]
  let setting: DestinationRule.LocalitySetting?
  /// Endpoints of this node come before all others.
  var prefersSameNode = false

  func apply(to endpoints: [EndpointCompiler.Labelled], failsOver: Bool) -> [Endpoint] {
    if setting?.enabled == false { return endpoints.map(\.endpoint) }
    if let rules = setting?.distribute, !rules.isEmpty {
      let rule = rules.first { Self.matches($0.from, client) }
      return rule.map { distribute(endpoints, $0) } ?? endpoints.map(\.endpoint)
    }
    let isPlaced = !client.region.isEmpty || prefersSameNode || !(setting?.failoverPriority.isEmpty ?? true)
    guard failsOver, isPlaced else { return endpoints.map(\.endpoint) }
    let priorities = endpoints.map(priority)
    let ranks = Array(Set(priorities)).sorted()
    return zip(endpoints, priorities).map { labelled, priority in
      var endpoint = labelled.endpoint
      endpoint.priority = ranks.firstIndex(of: priority) ?? 0
      return endpoint
    }
  }

  private func priority(_ labelled: EndpointCompiler.Labelled) -> Int {
    if let order = setting?.failoverPriority, !order.isEmpty {
      let matching = order.prefix { Self.labelMatches($0, clientLabels, labelled.labels) }.count
      let rank = order.count - matching
      // With both, regions decide among endpoints of one rank.
      return setting?.failover.isEmpty ?? true ? rank : rank * 5 + distance(labelled.endpoint.locality)
    }
    if prefersSameNode, labelled.endpoint.isLocal { return -1 }
    return distance(labelled.endpoint.locality)
  }

  /// 0: the client's own place; 4: a region that it does not fail over to.
  private func distance(_ locality: Locality) -> Int {
    guard locality.region == client.region else {
      guard let target = setting?.failover.first(where: { $0.from == client.region })?.to else { return 3 }
      return locality.region == target ? 3 : 4
    }
    guard locality.zone == client.zone else { return 2 }
    return locality.subzone == client.subzone ? 0 : 1
  }

  /// `key` compares both sides' values, of which none is a value, too; `key=value` fixes what the endpoint must have.
  private static func labelMatches(_ label: String, _ client: [String: String], _ endpoint: [String: String]) -> Bool {
    let parts = label.split(separator: "=", maxSplits: 1).map(String.init)
    guard let key = parts.first else { return false }
    let wanted = parts.count == 2 ? parts[1] : client[key]
    return (endpoint[key] ?? "") == (wanted ?? "")
  }

  /// Splits each percentage over the localities it names, by the weights of their endpoints; localities that are not listed
  /// get nothing (Istio, `applyLocalityWeights`).
  private func distribute(
    _ endpoints: [EndpointCompiler.Labelled], _ distribution: DestinationRule.LocalitySetting.Distribution
  ) -> [Endpoint] {
    var result: [Endpoint] = []
    var taken: Set<UInt64> = []
    for target in distribution.to.sorted(by: { LocalityForm.isNarrower($0.key, $1.key) }) {
      let members = endpoints.filter { Self.matches(target.key, $0.endpoint.locality) && !taken.contains($0.endpoint.key) }
      func weight(_ members: [EndpointCompiler.Labelled]) -> UInt64 { members.reduce(0) { $0 + UInt64($1.endpoint.weight) } }
      let total = max(1, weight(members))
      let ofLocality = Dictionary(grouping: members, by: \.endpoint.locality).mapValues(weight)
      for member in members {
        var endpoint = member.endpoint
        let share = UInt64(target.value) * 10_000 * (ofLocality[endpoint.locality] ?? 1) / total
        endpoint.localityShare = UInt32(clamping: max(1, share))
        taken.insert(endpoint.key)
        result.append(endpoint)
      }
    }
    return result.sorted { ($0.key, $0.address) < ($1.key, $1.address) }
  }

  /// `*`, or parts equal from the left, each of which may be `*`.
  private static func matches(_ pattern: String, _ locality: Locality) -> Bool {
    let parts = pattern.split(separator: "/", omittingEmptySubsequences: false)
    return zip(parts, [locality.region, locality.zone, locality.subzone]).allSatisfy { $0 == "*" || $0 == $1 }
  }
}
