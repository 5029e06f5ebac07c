/// How an endpoint that was written by hand is called, where nothing else says (Istio, `security.istio.io/tlsMode`).
enum EntryTLSMode {
  static let label = "security.istio.io/tlsMode"

  case plain
  /// By mutual TLS where a workload of the mesh is registered there, which a service account is the sign of.
  case mutualIfRegistered
  /// By mutual TLS only: the label says so.
  case mutual

  init(_ labels: [String: String], serviceAccount: String) {
    switch labels[Self.label] {
    case "istio": self = .mutual
    case nil: self = serviceAccount.isEmpty ? .plain : .mutualIfRegistered
    default: self = .plain
    }
  }
}

extension WorkloadEntry {
  /// What subsets and priorities compare: its own labels, and its network under the label that Istio gives it.
  var endpointLabels: [String: String] {
    network.isEmpty ? labels : labels.merging(["topology.istio.io/network": network]) { own, _ in own }
  }
}

extension ServiceEntry {
  var singleAddresses: [String] { addresses.filter { !$0.utf8.contains(0x2F) } }
}
