import MeshConfig
import Primitives

/// An endpoint chosen for one try. It stays good when the snapshot changes while the try runs.
public struct HostTicket: Hashable, Sendable {
  /// Index into the endpoints of the cluster that the balancer had when it chose.
  public let index: Int
  public var key: UInt64 { host.key }
  let host: SharedHost

  public static func == (a: HostTicket, b: HostTicket) -> Bool { a.index == b.index && a.key == b.key }
  public func hash(into hasher: inout Hasher) { hasher.combine(key) }
}

/// Whom to send a try to.
public enum Pick: Hashable, Sendable {
  case endpoint(HostTicket)
  /// The request's own destination.
  case originalDestination
  /// 503 UH.
  case none
}

/// What a pick depends on beside the balancer's own state.
public struct PickRequest: Sendable {
  /// From `StickyKey`; nil without one.
  public var hash: UInt64?
  /// Endpoint keys of earlier tries to stay away from; empty when the policy does not avoid them.
  public var tried: [UInt64]
  /// A retry that may leave the nearest priority (`retryRemoteLocalities`).
  public var prefersRemote: Bool
  /// The endpoint of the request's session, to be taken while it is fit for requests.
  public var preferred: UInt64?

  public init(hash: UInt64? = nil, tried: [UInt64] = [], prefersRemote: Bool = false) {
    self.hash = hash
    self.tried = tried
    self.prefersRemote = prefersRemote
  }
}

/// What an endpoint looks like to this node, for people.
public struct HostReport: Hashable, Sendable {
  public var key: UInt64
  public var active: Int
  public var isEjected: Bool
  public var isCooling: Bool
}

/// Chooses endpoints of one cluster for one worker. What is known of them is shared by all workers of the node; the
/// balancer itself is confined to its worker's thread.
public final class LoadBalancer {
  private var endpoints: [Endpoint]
  private var hosts: [SharedHost]
  private var load: SharedLoad
  private var hashing: HashTable?
  /// Whether `PickRequest.hash` decides.
  public var isSticky: Bool { hashing != nil }
  private var policy: LoadBalancerPolicy
  private var outliers: OutlierPolicy?
  private var discovery: Cluster.Discovery
  private var levels: PriorityLevels
  /// The state of `load` that `levels` were made from; nil asks for new ones.
  private var seen: UInt64?

  public init(_ cluster: Cluster, _ entry: LoadTable.Entry) {
    endpoints = cluster.endpoints
    let members = entry.members.of(cluster)
    hosts = members.hosts
    load = entry.load
    hashing = members.hashing
    policy = cluster.loadBalancer
    outliers = cluster.outlierDetection
    discovery = cluster.discovery
    levels = PriorityLevels([], [], minHealthPercent: 0, warmup: nil, at: .zero)
  }

  /// Takes the endpoints and policies of a new snapshot.
  public func update(_ cluster: Cluster, _ entry: LoadTable.Entry) {
    endpoints = cluster.endpoints
    let members = entry.members.of(cluster)
    hosts = members.hosts
    load = entry.load
    hashing = members.hashing
    policy = cluster.loadBalancer
    outliers = cluster.outlierDetection
    discovery = cluster.discovery
    seen = nil
  }

  private func refresh(at now: Instant) {
    load.sweepIfDue(hosts, interval: outliers?.interval, at: now)
    let version = load.version
    guard seen != version || now >= levels.validUntil else { return }
    levels = PriorityLevels(
      endpoints, hosts, minHealthPercent: outliers?.minHealthPercent ?? 0, warmup: policy.warmupInForce, at: now)
    seen = version
  }

  // MARK: Choosing

  public func pick(_ request: PickRequest, now: Instant, draws: inout SeededGenerator) -> Pick {
    if discovery == .originalDestination || hosts.isEmpty && policy.algorithm == .passthrough { return .originalDestination }
    refresh(at: now)
    guard !levels.levels.isEmpty else { return .none }
    if let preferred = request.preferred, !request.tried.contains(preferred), let host = fitHost(preferred) {
      return ticket(host)
    }
    let sticky = hashing == nil ? nil : request.hash
    var level = 0
    if levels.levels.count > 1 {
      level = levels.level(taking: Int(sticky.map { $0 % 100 } ?? draws.below(100)))
      if request.prefersRemote, !request.tried.isEmpty { level = min(level + 1, levels.levels.count - 1) }
    }
    if let sticky, let host = stickyHost(sticky, level: level) { return ticket(host) }
    var host = choose(in: level, &draws)
    if !request.tried.isEmpty { host = avoid(request.tried, host, level: level, &draws) }
    return ticket(host)
  }

  private func fitHost(_ key: UInt64) -> Int? {
    guard let host = hosts.firstIndex(where: { $0.key == key }) else { return nil }
    return levels.levels.contains { $0.members.contains(host) } ? host : nil
  }

  private func ticket(_ host: Int) -> Pick { .endpoint(HostTicket(index: host, host: hosts[host])) }

  private func stickyHost(_ hash: UInt64, level: Int) -> Int? {
    let members = levels.levels[level].members
    return hashing?.host(for: hash) { host in
      // Members ascend, and a level holds most hosts: a binary search beats a set.
      var low = 0
      var high = members.count
      while low < high {
        let middle = (low + high) / 2
        if members[middle] < host { low = middle + 1 } else { high = middle }
      }
      return low < members.count && members[low] == host
    }
  }

  private func choose(in level: Int, _ draws: inout SeededGenerator) -> Int {
    let count = levels.levels[level].members.count
    guard count > 1 else { return levels.levels[level].members[0] }
    let chosen =
      switch policy.algorithm {
      case .leastRequest: leastRequest(levels.levels[level], &draws)
      case .roundRobin: levels.levels[level].nextTurn(&draws)
      case .random, .passthrough, .consistentHash:
        levels.levels[level].member(at: draws.below(levels.levels[level].totalWeight))
      }
    return levels.levels[level].members[chosen]
  }

  /// The power of two choices (Mitzenmacher 1996): of two different endpoints drawn by weight, the one with fewer requests a
  /// unit of weight (Envoy's weight / active at a bias of 1); the first of equals, so that an idle cluster is shared by weight.
  private func leastRequest(_ level: PriorityLevels.Level, _ draws: inout SeededGenerator) -> Int {
    let first = level.member(at: draws.below(level.totalWeight))
    let firstWeight = level.weight(at: first)
    var point = draws.below(level.totalWeight - firstWeight)
    if point >= level.start(at: first) { point += firstWeight }
    let second = level.member(at: point)
    let a = UInt64(hosts[level.members[first]].active) &* level.weight(at: second)
    let b = UInt64(hosts[level.members[second]].active) &* firstWeight
    return b < a ? second : first
  }

  /// Another host than those tried: a few more draws, then whichever is left, nearest priority first; else the one at hand.
  private func avoid(_ tried: [UInt64], _ drawn: Int, level: Int, _ draws: inout SeededGenerator) -> Int {
    var host = drawn
    for _ in 0..<TrafficLimits.reselectionsMax {
      if !tried.contains(hosts[host].key) { return host }
      host = choose(in: level, &draws)
    }
    if !tried.contains(hosts[host].key) { return host }
    for candidate in levels.levels[level].members where !tried.contains(hosts[candidate].key) { return candidate }
    for other in levels.levels {
      for candidate in other.members where !tried.contains(hosts[candidate].key) { return candidate }
    }
    return host
  }

  // MARK: Learning

  /// A try was sent to the endpoint.
  public func started(_ ticket: HostTicket) { ticket.host.began() }

  /// The try is over, however it ended. Once for each `started`.
  public func finished(_ ticket: HostTicket) { ticket.host.ended() }

  /// What the try says about the endpoint; circuit-breaker overflow says nothing. Returns why it was ejected, when it was.
  @discardableResult
  public func report(_ result: HostResult, _ ticket: HostTicket, now: Instant) -> EjectionCause? {
    load.report(result, ticket.host, outliers, hosts: hosts.count, at: now)
  }

  // MARK: Looking in

  /// Endpoints as this node sees them, in the order of the cluster.
  public func reports(at now: Instant) -> [HostReport] {
    refresh(at: now)
    return hosts.map {
      HostReport(key: $0.key, active: $0.active, isEjected: $0.isEjected, isCooling: $0.rest(at: now) != nil)
    }
  }

  /// True while health is ignored because fewer endpoints than `minHealthPercent` are healthy.
  public var isPanicking: Bool { levels.isPanicking }
}

extension PriorityLevels.Level {
  /// Turn by turn; by weight when weights differ.
  fileprivate mutating func nextTurn(_ draws: inout SeededGenerator) -> Int {
    guard cumulativeWeights.isEmpty else {
      if schedule == nil { schedule = EarliestDeadline(weights: members.indices.map(weight), draws: &draws) }
      return schedule?.next() ?? 0
    }
    let now = turn ?? draws.next()
    turn = now &+ 1
    return Int(now % UInt64(members.count))
  }
}

extension LoadBalancerPolicy {
  /// Slow start concerns round robin and least request only (Istio, DestinationRule).
  fileprivate var warmupInForce: Warmup? { algorithm == .roundRobin || algorithm == .leastRequest ? warmup : nil }
}
