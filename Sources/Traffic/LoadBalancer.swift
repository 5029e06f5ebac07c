import MeshConfig
import Primitives

/// An endpoint chosen for one try. It stays good when the snapshot changes while the try runs.
public struct HostTicket: Hashable, Sendable {
  /// Index into the endpoints of the cluster that the balancer had when it chose.
  public let index: Int
  public let key: UInt64
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

  public init(hash: UInt64? = nil, tried: [UInt64] = [], prefersRemote: Bool = false) {
    self.hash = hash
    self.tried = tried
    self.prefersRemote = prefersRemote
  }
}

/// What an endpoint looks like to one worker, for people.
public struct HostReport: Hashable, Sendable {
  public var key: UInt64
  public var active: Int
  public var isEjected: Bool
  public var isCooling: Bool
}

/// Chooses endpoints of one cluster for one worker, and remembers how they did. Confined to the worker's thread.
public final class LoadBalancer {
  private var hosts: [HostState] = []
  private var indexByKey: [UInt64: Int] = [:]
  private var policy: LoadBalancerPolicy
  private var outliers: OutlierPolicy?
  private var discovery: Cluster.Discovery
  private var levels: PriorityLevels
  private var isStale = false
  private var nextSweep: Instant
  private var ring: HashRing?
  /// Where round robin stands; drawn on first use so that workers do not march in step.
  private var turn: UInt64?

  public init(_ cluster: Cluster, now: Instant) {
    policy = cluster.loadBalancer
    outliers = cluster.outlierDetection
    discovery = cluster.discovery
    levels = PriorityLevels([], nil, warmup: nil, at: now)
    nextSweep = now + (cluster.outlierDetection?.interval ?? .seconds(10))
    hosts = cluster.endpoints.map { HostState($0, addedAt: nil) }
    adopt(now: now)
  }

  /// Takes the endpoints and policies of a new snapshot; what is known of endpoints that stay is kept.
  public func update(_ cluster: Cluster, now: Instant) {
    policy = cluster.loadBalancer
    outliers = cluster.outlierDetection
    discovery = cluster.discovery
    let old = hosts
    hosts = cluster.endpoints.map { endpoint in
      guard let index = indexByKey[endpoint.key] else { return HostState(endpoint, addedAt: old.isEmpty ? nil : now) }
      var host = old[index]
      host.update(endpoint)
      return host
    }
    adopt(now: now)
  }

  private func adopt(now: Instant) {
    indexByKey = [:]
    for (index, host) in hosts.enumerated() { indexByKey[host.key] = index }
    ring = nil
    if case .consistentHash(_, let minimumRingSize) = policy.algorithm, !hosts.isEmpty {
      ring = HashRing(keys: hosts.map(\.key), weights: hosts.map(\.weight), minimumSize: minimumRingSize)
    }
    rebuild(at: now)
  }

  private func rebuild(at now: Instant) {
    levels = PriorityLevels(hosts, outliers, warmup: policy.warmup, at: now)
    isStale = false
  }

  // MARK: Choosing

  public func pick(_ request: PickRequest, now: Instant, draws: inout SeededGenerator) -> Pick {
    if discovery == .originalDestination || policy.algorithm == .passthrough && hosts.isEmpty { return .originalDestination }
    refresh(at: now)
    guard !levels.levels.isEmpty else { return .none }
    let sticky = ring == nil ? nil : request.hash
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

  private func ticket(_ host: Int) -> Pick { .endpoint(HostTicket(index: host, key: hosts[host].key)) }

  private func refresh(at now: Instant) {
    if now >= nextSweep { sweep(at: now) }
    if isStale || now >= levels.validUntil { rebuild(at: now) }
  }

  private func stickyHost(_ hash: UInt64, level: Int) -> Int? {
    let members = levels.levels[level].members
    return ring?.host(for: hash) { host in
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
    let members = levels.levels[level].members
    guard members.count > 1 else { return members[0] }
    switch policy.algorithm {
    case .leastRequest: return members[leastRequest(levels.levels[level], &draws)]
    case .roundRobin: return members[roundRobin(levels.levels[level], &draws)]
    case .random, .passthrough, .consistentHash:
      return members[levels.levels[level].member(at: draws.below(levels.levels[level].totalWeight))]
    }
  }

  /// The power of two choices (Mitzenmacher 1996): of two different endpoints drawn by weight, the one with fewer requests a
  /// unit of weight; the first of equals, so that an idle cluster is shared by weight.
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

  /// Turn by turn; with weights by a golden-ratio sequence over the weights, which serves each endpoint in proportion at any point.
  private func roundRobin(_ level: PriorityLevels.Level, _ draws: inout SeededGenerator) -> Int {
    let now = turn ?? draws.next()
    turn = now &+ 1
    if level.cumulativeWeights.isEmpty { return Int(now % UInt64(level.members.count)) }
    let point = (now &* 0x9E37_79B9_7F4A_7C15).multipliedFullWidth(by: level.totalWeight).high
    return level.member(at: point)
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
  public func started(_ ticket: HostTicket) {
    if let index = index(of: ticket) { hosts[index].active += 1 }
  }

  /// The try is over, however it ended. Once for each `started`.
  public func finished(_ ticket: HostTicket) {
    if let index = index(of: ticket) { hosts[index].active = max(0, hosts[index].active - 1) }
  }

  /// What the try says about the endpoint; circuit-breaker overflow says nothing. Returns why it was ejected, when it was.
  @discardableResult
  public func report(_ result: HostResult, _ ticket: HostTicket, now: Instant) -> EjectionCause? {
    guard let index = index(of: ticket) else { return nil }
    let wasCooling = hosts[index].coolsUntil != nil
    let cause = hosts[index].record(result, outliers, at: now)
    if wasCooling != (hosts[index].coolsUntil != nil) || hosts[index].isCooling(at: now) { isStale = true }
    guard let cause, let outliers, !hosts[index].isEjected, mayEject(outliers) else { return nil }
    hosts[index].eject(outliers, at: now)
    isStale = true
    return cause
  }

  /// (ejected + 1) / hosts must stay within the limit, so 10 % ejects nothing below ten hosts.
  private func mayEject(_ policy: OutlierPolicy) -> Bool {
    let ejected = hosts.count { $0.isEjected }
    return (ejected + 1) * 100 <= policy.maxEjectionPercent * hosts.count
  }

  private func sweep(at now: Instant) {
    let interval = max(.milliseconds(1), outliers?.interval ?? .seconds(10))
    nextSweep = now + interval
    for index in hosts.indices where hosts[index].sweep(at: now) { isStale = true }
  }

  private func index(of ticket: HostTicket) -> Int? {
    if ticket.index < hosts.count, hosts[ticket.index].key == ticket.key { return ticket.index }
    return indexByKey[ticket.key]
  }

  // MARK: Looking in

  /// Endpoints as this worker sees them, in the order of the cluster.
  public func reports(at now: Instant) -> [HostReport] {
    refresh(at: now)
    return hosts.map {
      HostReport(key: $0.key, active: $0.active, isEjected: $0.isEjected, isCooling: $0.isCooling(at: now))
    }
  }

  /// True while health is ignored because fewer endpoints than `minHealthPercent` are healthy.
  public var isPanicking: Bool { levels.isPanicking }
}
