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
    let reach = EndpointReach(
      endpoint, of: cluster.host, cluster.tls, cluster.protocol, cluster.connectionPool.http2, source: source, state)
    key = reach.key
    speaksHTTP2 = reach.speaksHTTP2
    if key.security == .mesh, let mesh = endpoint.mesh {
      host = mesh.address
      port = mesh.port
      security = .mesh(mesh, source: source)
    } else {
      (host, port) = state.application(of: endpoint) ?? (endpoint.address, endpoint.port)
      security = endpoint.isLocal ? .plain : UpstreamSecurity(cluster.tls, host: cluster.host)
    }
  }
}

/// By what connections to an endpoint are kept: all that a request needs to know that finds one.
struct EndpointReach {
  var key: UpstreamKey
  var speaksHTTP2: Bool

  init(
    _ endpoint: Endpoint, of host: @autoclosure () -> String, _ tls: UpstreamTLS, _ protocol: PortProtocol,
    _ http2: ConnectionPoolPolicy.HTTP2Use, source: Int?,
    _ state: ServingState
  ) {
    if !endpoint.isLocal, endpoint.mesh != nil, tls.usesMeshIdentity {
      let number = source.flatMap { state.sourceNumbers.indices.contains($0) ? state.sourceNumbers[$0] : nil }
      key = UpstreamKey(source: number ?? -1, endpoint: endpoint.key, security: .mesh)
      speaksHTTP2 = true
    } else {
      let security = endpoint.isLocal || tls.isPlainOutside ? .plain : UpstreamSecurity(tls, host: host())
      key = UpstreamKey(source: -1, endpoint: endpoint.key, security: UpstreamKey.Security(security))
      speaksHTTP2 = `protocol`.isHTTP2 || http2 == .always
    }
  }
}

extension PortProtocol {
  var isHTTP2: Bool { self == .http2 || self == .grpc }
}
