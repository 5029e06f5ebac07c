import Cluster
import Consensus
import Distributed
import Membership
import Primitives
import Transport

/// Answers for the registry of this node, and keeps the services' addresses while this node holds the discovery role.
public distributed actor DiscoveryActor: MeshActor {
  public static let name = "discovery"
  public static let targets = ActorTargets.discovery
  public static func authorize(_ target: MeshTarget, caller: NodeName) -> Bool { true }

  private let cluster: ClusterRuntime
  /// Since when each node's registry has differed from this one's, as the holder of the role sees it.
  private var differingSince: [NodeName: ContinuousClock.Instant] = [:]

  public init(cluster: ClusterRuntime, actorSystem: SocketActorSystem) {
    self.cluster = cluster
    self.actorSystem = actorSystem
  }

  /// The digest of the registry that this node holds, to compare nodes with.
  public distributed func registryDigest() -> UInt64 { cluster.view.registry.digestHash }

  /// Gives every host without an address one, for ever, in the order of their names. Does nothing unless this node holds
  /// the role.
  public func allocateAddresses(for hosts: [String]) async throws {
    guard let epoch = await cluster.epoch(of: .discovery) else { return }
    let known = cluster.view.control.addresses
    var used = Set(known.values)
    var next: UInt16 = 1
    var allocations: [AddressAllocation] = []
    for host in hosts.sorted() where known[host] == nil && allocations.count < Self.allocationsPerEntry {
      while let candidate = ServiceAddress(host: next), used.contains(candidate) { next &+= 1 }
      guard let address = ServiceAddress(host: next) else { break }
      used.insert(address)
      allocations.append(AddressAllocation(host: host, address: address))
    }
    guard !allocations.isEmpty else { return }
    _ = try await cluster.propose(.allocateAddresses(allocations, epoch: epoch))
  }

  private static let allocationsPerEntry = 256

  /// Asks every live node for its digest and returns those that have differed for longer than `patience`.
  public func nodesOutOfStep(patience: Duration) async -> [NodeName] {
    guard await cluster.epoch(of: .discovery) != nil else { return [] }
    let own = cluster.view.registry.digestHash
    var lagging: [NodeName] = []
    for node in cluster.view.aliveNodes where node != cluster.local.name {
      let digest = try? await RemoteCall.with(timeout: .seconds(2)) {
        try await DiscoveryActor.on(node, using: actorSystem).registryDigest()
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
