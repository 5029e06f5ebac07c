import Cluster
import Distributed
import Membership
import Primitives
import Transport

/// Answers for the registry of this node.
public distributed actor DiscoveryActor: MeshActor {
  public static let name = "discovery"
  public static let targets = ActorTargets.discovery
  public static func authorize(_ target: MeshTarget, caller: NodeName) -> Bool { true }

  private let cluster: ClusterRuntime

  public init(cluster: ClusterRuntime, actorSystem: SocketActorSystem) {
    self.cluster = cluster
    self.actorSystem = actorSystem
  }

  /// The digest of the registry that this node holds, to compare nodes with.
  public distributed func registryDigest() -> UInt64 { cluster.view.registry.digestHash }
}
