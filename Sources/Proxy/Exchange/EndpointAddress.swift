import MeshConfig
import Primitives
import Traffic
import Transport

/// Where an endpoint is reached from here, and how.
struct EndpointAddress {
  var key: UpstreamKey
  var host: String
  var port: UInt16
  var security: UpstreamSecurity
  /// It is spoken to by HTTP/2: other nodes always, others by the protocol of their port.
  var speaksHTTP2: Bool

  /// - Parameter source: the calling workload, an index into the snapshot's local workloads.
  init(_ endpoint: Endpoint, in cluster: Cluster, source: Int?, _ state: ServingState) {
    if !endpoint.isLocal, let mesh = endpoint.mesh, cluster.tls.usesMeshIdentity {
      let number = source.flatMap { state.sourceNumbers.indices.contains($0) ? state.sourceNumbers[$0] : nil }
      key = UpstreamKey(source: number ?? -1, endpoint: endpoint.key, security: .mesh)
      host = mesh.address
      port = mesh.port
      security = .mesh(mesh, source: source)
      speaksHTTP2 = true
      return
    }
    let outside = endpoint.isLocal ? .plain : UpstreamSecurity(cluster.tls, host: cluster.host)
    key = UpstreamKey(source: -1, endpoint: endpoint.key, security: outside == .plain ? .plain : .origination)
    host = endpoint.address
    port = endpoint.port
    security = outside
    speaksHTTP2 = cluster.protocol.isHTTP2 || cluster.connectionPool.http2 == .always
  }
}

extension PortProtocol {
  var isHTTP2: Bool { self == .http2 || self == .grpc }
}
