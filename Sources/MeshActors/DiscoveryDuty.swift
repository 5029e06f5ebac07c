import Cluster
import Consensus
import Membership
import Primitives
import Transport

/// What the holder of the discovery role does: gives services their addresses and watches that all registries agree.
public actor DiscoveryDuty {
  private let cluster: ClusterRuntime
  private let system: SocketActorSystem
  /// Since when each node's registry has differed from this one's.
  private var differingSince: [NodeName: ContinuousClock.Instant] = [:]

  public init(cluster: ClusterRuntime, system: SocketActorSystem) {
    self.cluster = cluster
    self.system = system
  }

  /// Gives every host without an address one, for ever. Does nothing unless this node holds the role.
  public func allocateAddresses(for hosts: [String]) async throws {
    guard cluster.view.heldRoles.contains(.discovery), let epoch = await cluster.epoch(of: .discovery) else { return }
    let allocations = cluster.view.control.freeAddresses(for: hosts)
    guard !allocations.isEmpty else { return }
    _ = try await cluster.propose(.allocateAddresses(allocations, epoch: epoch))
  }

  /// Asks every live node for its digest and returns those that have differed for longer than `patience`.
  public func nodesOutOfStep(patience: Duration) async -> [NodeName] {
    guard await cluster.epoch(of: .discovery) != nil else { return [] }
    let own = cluster.view.registry.digestHash
    var lagging: [NodeName] = []
    let alive = Set(cluster.view.aliveNodes)
    differingSince = differingSince.filter { alive.contains($0.key) }
    for node in cluster.view.aliveNodes where node != cluster.local.name {
      let digest = try? await RemoteCall.with(timeout: .seconds(2)) {
        try await DiscoveryActor.on(node, using: system).registryDigest()
      }
      guard let digest, digest != own else {
        differingSince[node] = nil
        continue
      }
      let since = differingSince[node] ?? .now
      differingSince[node] = since
      if since.duration(to: .now) > patience { lagging.append(node) }
    }
    return lagging
  }
}
