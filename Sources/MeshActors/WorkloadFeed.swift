import Membership
import MeshConfig
import Primitives

/// Turns states of the registry into changes of workload records, so that one changed row costs one row.
struct WorkloadFeed {
  /// What the registry is read with.
  struct Surroundings: Equatable {
    /// Members that are alive.
    var live: Set<NodeName> = []
    /// Where each node is.
    var addresses: [NodeName: String] = [:]
    /// Outbound ports of this node's workloads.
    var outboundPorts: [WorkloadKey: UInt16] = [:]
  }

  enum Change {
    case everything([WorkloadRecord])
    /// Keys of records that are gone, and records that are new or may have changed.
    case some(gone: [String], put: [WorkloadRecord])
  }

  private let local: NodeName
  private var mark: UInt64?
  private var surroundings = Surroundings()
  private var meshPorts: [NodeName: UInt16] = [:]

  init(local: NodeName) { self.local = local }

  /// What is other than at the last call.
  mutating func change(to registry: Registry, in new: Surroundings) -> Change {
    let old = surroundings
    surroundings = new
    defer { mark = registry.changeMark }
    guard let mark, let changed = registry.keysChanged(since: mark) else {
      meshPorts = Dictionary(registry.nodes.map { ($0.owner, $0.row.meshPort) }) { first, _ in first }
      return .everything(registry.workloads(live: new.live).map { record($0) })
    }
    var keys = changed.filter { $0.kind == .workload }
    for owner in owners(concernedBy: changed, registry, old, new) { keys.formUnion(registry.workloadKeys(of: owner)) }
    var gone: [String] = []
    var put: [WorkloadRecord] = []
    for key in keys.sorted() {
      if let placed = registry.workload(key, live: new.live) {
        put.append(record(placed))
      } else {
        gone.append("\(key.namespace)/\(key.name)@\(key.owner)")
      }
    }
    return .some(gone: gone, put: put)
  }

  /// Owners all of whose workloads are seen in another light.
  private mutating func owners(
    concernedBy changed: Set<RowKey>, _ registry: Registry, _ old: Surroundings, _ new: Surroundings
  ) -> Set<NodeName> {
    var owners = old.live.symmetricDifference(new.live)
    if old.addresses != new.addresses {
      for owner in Set(old.addresses.keys).union(new.addresses.keys) where old.addresses[owner] != new.addresses[owner] {
        owners.insert(owner)
      }
    }
    if old.outboundPorts != new.outboundPorts { owners.insert(local) }
    // A node row is written often; what it says of its port hardly ever changes.
    for key in changed where key.kind == .node {
      let port = registry.meshPort(of: key.owner)
      if meshPorts.updateValue(port, forKey: key.owner) != port { owners.insert(key.owner) }
    }
    return owners
  }

  private func record(_ placed: Registry.PlacedWorkload) -> WorkloadRecord {
    let key = WorkloadKey(namespace: placed.row.namespace, name: placed.row.name)
    return WorkloadRecord(
      placed, meshAddress: surroundings.addresses[placed.owner] ?? placed.row.address,
      outboundPort: placed.owner == local ? surroundings.outboundPorts[key] : nil)
  }
}
