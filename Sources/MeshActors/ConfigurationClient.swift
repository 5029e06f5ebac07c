import Cluster
import Consensus
import Membership
import Primitives
import Transport

/// Takes changes from people at this node to whoever holds the configuration role, wherever that is by then.
public struct ConfigurationClient: Sendable {
  private let cluster: ClusterRuntime
  private let system: SocketActorSystem

  public init(cluster: ClusterRuntime, system: SocketActorSystem) {
    self.cluster = cluster
    self.system = system
  }

  /// Submits until a holder answers or the deadline passes. The request's number makes a second copy harmless.
  ///
  /// The calls it takes have one trace, which every node that serves one of them writes into its log.
  public func submit(_ change: ConfigChange, deadline: ContinuousClock.Instant) async throws -> ConfigReply {
    try await RemoteCall.$trace.withValue(RemoteCall.trace ?? .begun()) { try await submitTraced(change, deadline: deadline) }
  }

  private func submitTraced(_ change: ConfigChange, deadline: ContinuousClock.Instant) async throws -> ConfigReply {
    var last: MeshError?
    let started = ContinuousClock.now
    while ContinuousClock.now < deadline {
      do {
        if let holder = cluster.view.control.roles[.configuration].holder {
          return try await RemoteCall.with(timeout: ContinuousClock.now.duration(to: deadline)) {
            try await ConfigActor.on(holder, using: system).submit(change)
          }
        }
      } catch let error as MeshError where Self.mayMove(error) {
        last = error
      }
      if let error = await quorumLost(since: started) { throw error }
      try await Task.sleep(for: .milliseconds(25))
    }
    if let error = await quorumLost(since: .now - .seconds(3600)) { throw error }
    let why = last.map { " (\($0.message))" } ?? ""
    throw MeshError(.timeout, "nobody could take the change in time\(why); see: mesh-node roles")
  }

  /// Errors after which the role may be found elsewhere.
  private static func mayMove(_ error: MeshError) -> Bool {
    switch error.code {
    case .notHolder, .nodeUnreachable, .staleEpoch, .unavailable, .overloaded, .unknownActor, .conflict: true
    default: false
    }
  }

  private func quorumLost(since started: ContinuousClock.Instant) async -> MeshError? {
    guard !cluster.view.quorum.isReachable, started.duration(to: .now) > .seconds(2) else { return nil }
    return cluster.view.noQuorum
  }

  /// Returns when this node has applied everything that was decided anywhere before this call.
  public func reachDecided(deadline: ContinuousClock.Instant) async throws {
    let started = ContinuousClock.now
    while ContinuousClock.now < deadline {
      do {
        if let leader = cluster.view.raft.leader {
          let revision = try await RemoteCall.with(timeout: ContinuousClock.now.duration(to: deadline)) {
            try await ConfigActor.on(leader, using: system).decidedRevision()
          }
          return try await reach(LogIndex(revision), deadline: deadline)
        }
      } catch let error as MeshError where Self.mayMove(error) {
        // The leader moved or is gone; its successor is found below.
      }
      if let error = await quorumLost(since: started) { throw error }
      try await Task.sleep(for: .milliseconds(25))
    }
    throw MeshError(.timeout, "no leader could say in time what is decided; see: mesh-node status")
  }

  private func reach(_ revision: LogIndex, deadline: ContinuousClock.Instant) async throws {
    while cluster.view.control.revision < revision {
      guard ContinuousClock.now < deadline else {
        throw MeshError(.timeout, "this node has not received revision \(revision) in time; see: mesh-node status")
      }
      try await Task.sleep(for: .milliseconds(2))
    }
  }

  /// Asks the leader, then everyone alive, for the key that opens the Secrets; nil when nobody has it or could be asked.
  public func secretsKey() async -> [UInt8]? {
    let view = cluster.view
    for node in [view.raft.leader].compactMap(\.self) + view.aliveNodes where node != cluster.local.name {
      let key = try? await RemoteCall.with(timeout: .seconds(2)) { try await ConfigActor.on(node, using: system).secretsKey() }
      if let key, key.count == SecretSeal.keyBytes { return key }
    }
    return nil
  }

  /// Waits until every live node serves a revision; who does, and who did not in time.
  public func awaitServing(
    _ revision: UInt64, deadline: ContinuousClock.Instant
  ) async -> (serving: [NodeName], lagging: [NodeName]) {
    await withTaskGroup(of: (NodeName, Bool).self) { group in
      for node in cluster.view.aliveNodes {
        group.addTask { (node, await serves(revision, node, deadline)) }
      }
      var serving: [NodeName] = []
      var lagging: [NodeName] = []
      for await (node, isServing) in group {
        if isServing { serving.append(node) } else { lagging.append(node) }
      }
      return (serving.sorted(), lagging.sorted())
    }
  }

  private func serves(_ revision: UInt64, _ node: NodeName, _ deadline: ContinuousClock.Instant) async -> Bool {
    while ContinuousClock.now < deadline {
      let served = try? await RemoteCall.with(timeout: ContinuousClock.now.duration(to: deadline)) {
        try await ProxyActor.on(node, using: system).awaitServing(revision: revision)
      }
      if let served, served >= revision { return true }
      // A node that died meanwhile is not waited for: it serves nothing.
      if cluster.view.member(node)?.state.isLive != true { return true }
      try? await Task.sleep(for: .milliseconds(50))
    }
    return false
  }
}
