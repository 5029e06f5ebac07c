import Nodes
import Primitives

/// Which processes the demo runs, and where.
struct DemoPlan: Sendable {
  struct Workload: Sendable, Hashable {
    let service: String
    let version: String
    let node: String
    let address: String
    let port: UInt16
    var name: String { "\(service)-\(version)" }
    var label: String { "\(name)@\(node)" }
    /// The demo application's account, as in Istio's Bookinfo.
    var serviceAccount: String { "bookinfo-\(service)" }
  }

  let file: ClusterFile
  let nodes: [ClusterFile.Node]
  let workloads: [Workload]
  /// Port that the demo's Gateway opens.
  static let gatewayPort: UInt16 = 8080

  init(file: ClusterFile) throws {
    guard file.nodes.count >= 3 else {
      throw CommandFailure("\(file.path): the demo needs three nodes, and the file names \(file.nodes.count)")
    }
    self.file = file
    nodes = Array(file.nodes.prefix(3))
    guard nodes.allSatisfy({ $0.address.hasPrefix("127.") }) else {
      throw CommandFailure(
        "\(file.path): the demo runs on this machine only, so its nodes need addresses such as 127.0.0.1, 127.0.0.2, 127.0.0.3")
    }
    // Every service has instances on two nodes, so that any one node may die. Position in the list = node.
    let placement: [(service: String, version: String, port: UInt16, on: [Int])] = [
      ("productpage", "v1", 9080, [0, 2]), ("details", "v1", 9081, [0, 1]), ("ratings", "v1", 9082, [1, 2]),
      ("reviews", "v1", 9083, [0, 2]), ("reviews", "v2", 9084, [0, 1]), ("reviews", "v3", 9085, [1, 2]),
    ]
    var workloads: [Workload] = []
    for place in placement {
      for index in place.on {
        workloads.append(
          Workload(
            service: place.service, version: place.version, node: nodes[index].name.string, address: nodes[index].address,
            port: place.port))
      }
    }
    self.workloads = workloads
  }

  var gateways: [ClusterFile.Node] { nodes.filter(\.gateway) }
}
