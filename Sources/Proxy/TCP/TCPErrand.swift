import MeshConfig
import Traffic

/// What an accepted opaque connection is for, and on whose behalf.
struct TCPErrand {
  enum Way: Equatable {
    /// By the rules of the source workload, once the server name is known where they ask for it.
    case mesh
    /// As a gateway's rules have decided.
    case decided(TCPPlan)
    /// To an application of this node.
    case inbound(InboundTarget)
  }
  var way: Way
  var request: TCPRequest
  /// Indices into the snapshot's workloads and local workloads.
  var source: WorkloadIndex?
  var sourceLocal: Int?
  /// The tables it goes by, where they are not the source workload's.
  var table: Int?
  /// The host it is for is the one that the client's server name names.
  var isForServerName = false
}
