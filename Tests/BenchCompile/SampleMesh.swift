import MeshConfig
import Primitives

/// A mesh of a given size: so many services, each with its VirtualService and its workloads on as many nodes.
struct SampleMesh {
  let services: Int
  let replicas: Int

  var settings: MeshSettings {
    get throws {
      MeshSettings(
        cluster: "bench", trustDomain: "cluster.local", localNode: try NodeName("n0"), localAddress: "10.0.0.1",
        localLocality: Locality(parsing: "region/a/1"))
    }
  }

  /// A Service and a VirtualService with two rules for each service.
  func objects() throws -> [StoredObject] {
    var text = ""
    for index in 0..<services {
      text += Self.service(index, port: 80)
      text += Self.virtualService(index, timeout: 5)
    }
    return try Self.stored(text, from: 1)
  }

  static func service(_ index: Int, port: Int) -> String {
    """
    apiVersion: v1
    kind: Service
    metadata: {name: s\(index), namespace: default}
    spec:
      selector: {app: s\(index)}
      ports: [{name: http, port: \(port), targetPort: 9080}]
    ---

    """
  }

  static func destinationRule(_ index: Int, subsets: Int) -> String {
    """
    apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: {name: s\(index), namespace: default}
    spec:
      host: s\(index)
      subsets: [\((1...subsets).map { "{name: v\($0), labels: {version: v\($0)}}" }.joined(separator: ", "))]
    ---

    """
  }

  static func virtualService(_ index: Int, timeout: Int) -> String {
    """
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: s\(index), namespace: default}
    spec:
      hosts: [s\(index)]
      http:
      - match: [{uri: {prefix: /api/}}, {headers: {end-user: {exact: jason}}}]
        timeout: \(timeout)s
        route: [{destination: {host: s\(index)}}]
      - route: [{destination: {host: s\(index)}}]
    ---

    """
  }

  /// The objects of a text, the first of them as old as revision `created`, each later one a revision younger.
  static func stored(_ text: String, from created: UInt64) throws -> [StoredObject] {
    let changeSet = ChangeSet([ConfigSource(name: "bench", bytes: Array(text.utf8))])
    guard !changeSet.hasErrors else { throw BenchError("the sample does not apply: \(changeSet.findings.prefix(3))") }
    return changeSet.objects.enumerated().map { StoredObject($0.element, created: created + UInt64($0.offset)) }
  }

  func workload(_ service: Int, _ replica: Int, health: EndpointHealth = .healthy) throws -> WorkloadRecord {
    WorkloadRecord(
      node: try NodeName("n\(replica)"), name: "s\(service)-\(replica)", namespace: "default", service: "s\(service)",
      serviceAccount: "s\(service)", labels: ["app": "s\(service)", "version": "v\(replica % 2 + 1)"],
      address: "10.\(replica).\(service / 250).\(service % 250 + 1)", meshAddress: "10.0.0.\(replica + 1)", meshPort: 15008,
      ports: [WorkloadRecord.Port(name: "http", servicePort: nil, port: 9080, protocol: .http)],
      locality: Locality(parsing: "region/\(["a", "b", "c"][replica % 3])/1"), health: health,
      outboundPort: replica == 0 && service == 0 ? 15_100 : nil)
  }

  /// All workloads, one after the other. The bench's node has one workload; the others have the rest.
  func forEachWorkload(_ body: (WorkloadRecord) throws -> Void) throws {
    for service in 0..<services {
      for replica in 0..<replicas {
        var record = try workload(service, replica)
        if service > 0, replica == 0 { record.node = try NodeName("n\(replicas)") }
        try body(record)
      }
    }
  }
}

struct BenchError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}
