import Primitives

@testable import MeshConfig

/// Small builders for configuration and registrations.
enum Fixture {
  static func changeSet(_ text: String) -> ChangeSet { ChangeSet([ConfigSource(name: "test.yaml", bytes: Array(text.utf8))]) }

  /// An object of `kind` whose spec is the given block, which keeps its own indentation.
  static func object(_ kind: String, _ name: String, namespace: String = "default", spec: String) -> String {
    let group = kind == "Service" ? "v1" : "networking.istio.io/v1"
    let body = spec.split(separator: "\n", omittingEmptySubsequences: false).map { "  \($0)" }.joined(separator: "\n")
    return "apiVersion: \(group)\nkind: \(kind)\nmetadata:\n  name: \(name)\n  namespace: \(namespace)\nspec:\n\(body)\n---\n"
  }

  /// Objects in the order written, each one revision younger than the one before.
  static func stored(_ text: String) -> [StoredObject] {
    changeSet(text).objects.enumerated().map { StoredObject($0.element, created: UInt64($0.offset + 1)) }
  }

  static func node(_ name: String) throws -> NodeName { try NodeName(name) }

  static func settings() throws -> MeshSettings {
    MeshSettings(
      cluster: "test", trustDomain: "cluster.local", localNode: try node("n1"), localAddress: "127.0.0.1",
      localLocality: Locality(parsing: "local/a/1"))
  }

  static func workload(
    _ service: String?, _ version: String = "v1", node name: String = "n1", namespace: String = "default",
    port: UInt16 = 9080, locality: String = "local/a/1", labels: [String: String]? = nil, isGateway: Bool = false
  ) throws -> WorkloadRecord {
    let app = service ?? "client"
    return WorkloadRecord(
      node: try node(name), name: "\(app)-\(version)", namespace: namespace, service: service, serviceAccount: app,
      labels: labels ?? ["app": app, "version": version], address: "10.0.0.1", meshAddress: "127.0.0.1", meshPort: 15008,
      ports: [WorkloadRecord.Port(name: "http", servicePort: nil, port: port, protocol: .http)],
      locality: Locality(parsing: locality), health: .healthy, isGateway: isGateway)
  }

  static func compile(
    _ text: String, _ workloads: [WorkloadRecord], settings: MeshSettings? = nil
  ) throws -> (snapshot: MeshSnapshot, findings: [Finding]) {
    MeshSnapshot.compile(
      revision: 1, registryVersion: 1, objects: stored(text), workloads: workloads, settings: try settings ?? self.settings())
  }
}

extension MeshSnapshot {
  /// Routes of a host on a port for the workload at `index` in `localWorkloads`.
  func routes(_ host: String, _ port: UInt16, workload index: Int = 0) -> [Route] {
    outbound[localWorkloads[index].outbound].routes(host, port)
  }
  func cluster(_ name: String) -> Cluster? { clusters.first { $0.name == name } }
}

extension RouteTable {
  func routes(_ host: String, _ port: UInt16) -> [Route] {
    guard let table = ports.first(where: { $0.port == port }) else { return [] }
    let bytes = Array(host.utf8)
    if let index = table.exact[bytes] { return table.virtualHosts[index].routes }
    let wildcard = table.wildcards.first {
      bytes.count >= $0.suffix.count && bytes.suffix($0.suffix.count).elementsEqual($0.suffix)
    }
    return wildcard.map { table.virtualHosts[$0.virtualHost].routes } ?? []
  }
}

extension Route {
  /// `name=weight` of each destination.
  var destinations: [String] {
    guard case .forward(let destinations) = action else { return [] }
    return destinations.map { "\($0.clusterName)=\($0.weight)\($0.cluster == nil ? "!" : "")" }
  }
}
