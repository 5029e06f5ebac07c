import CLinux
import Glibc
import MeshConfig
import Primitives
import Traffic
import Transport

/// How the connection of one try is secured.
enum UpstreamSecurity: Equatable {
  case plain
  /// mTLS to another node's mesh port, with the identity of a local workload (an index into the snapshot's).
  case mesh(Endpoint.MeshRoute, source: Int?)
  /// TLS to a server outside the mesh, which has to prove the name.
  case origination(serverName: String, tls: UpstreamTLS)
  /// The workload's identity is demanded, and the endpoint is no workload of the mesh that could prove its own.
  case unavailable

  /// What a DestinationRule asks for towards an endpoint outside the mesh.
  init(_ tls: UpstreamTLS, host: String) {
    switch tls {
    case .automatic, .disabled: self = .plain
    case .istioMutual: self = .unavailable
    case .simple(let serverName, _, _, _, _), .mutual(let serverName, _, _, _, _, _, _):
      self = .origination(serverName: serverName ?? host, tls: tls)
    }
  }
}

extension UpstreamTLS {
  /// Whether mesh endpoints are reached with workload identities.
  var usesMeshIdentity: Bool {
    switch self {
    case .automatic, .istioMutual: true
    case .disabled, .simple, .mutual: false
    }
  }

  /// Whether endpoints outside the mesh are reached by TLS.
  var originates: Bool {
    switch self {
    case .automatic, .istioMutual, .disabled: false
    case .simple, .mutual: true
    }
  }

  /// Whether endpoints outside the mesh are called without TLS.
  var isPlainOutside: Bool {
    switch self {
    case .automatic, .disabled: true
    case .istioMutual, .simple, .mutual: false
    }
  }

  /// Files that certificates and keys are read from.
  var files: [String] {
    switch self {
    case .automatic, .disabled, .istioMutual: []
    case .simple(_, _, let authorities, _, let revocations): [authorities, revocations].compactMap { $0 }
    case .mutual(_, _, let authorities, let certificate, let key, _, let revocations):
      [authorities, certificate, key, revocations].compactMap { $0 }
    }
  }

  /// Names of which the server's certificate must hold one; empty when any will do.
  func expectedNames(_ serverName: String) -> [String] {
    switch self {
    case .simple(_, let names, _, let insecure, _), .mutual(_, let names, _, _, _, let insecure, _):
      insecure ? [] : names.isEmpty ? [serverName] : names
    default: []
    }
  }
}

extension Worker {
  /// Begins to connect, with the security asked for.
  func upstreamStream(
    to address: SocketAddress, _ security: UpstreamSecurity, _ state: ServingState, http2: Bool = false,
    keepAlive: TCPKeepAlive? = nil
  ) throws(ProxyError.ConnectFailure) -> ByteStream {
    let socket: Socket
    do throws(SystemError) {
      socket = try Socket.connect(to: address)
    } catch {
      throw connectFailure(error.code)
    }
    // What configuration names must not reach this process's own sockets: whoever connects there is its owner.
    if case .unix = address, state.options.refusesOwnSockets, (try? socket.peerCredentials())?.process == getpid() {
      throw .unreachable
    }
    if let keepAlive {
      _ = cl_set_keep_alive(
        socket.descriptor, keepAlive.time.wholeSeconds, keepAlive.interval.wholeSeconds, Int32(clamping: keepAlive.probes ?? 0))
    }
    do throws(TLSError) {
      switch security {
      case .plain: return ByteStream(socket)
      case .unavailable: throw TLSError.configuration("ISTIO_MUTUAL is demanded towards an endpoint outside the mesh")
      case .mesh(let route, let source):
        guard let source, state.tls.clients.indices.contains(source), let context = state.tls.clients[source] else {
          throw TLSError.configuration("the workload has no certificate yet")
        }
        return try ByteStream(
          socket, context, serverName: route.serverName, expecting: .members(state.names(of: route.identity)))
      case .origination(let serverName, let tls):
        let names = tls.expectedNames(serverName)
        guard let context = try state.tls.origination(tls, http2: http2)?.get() else {
          throw TLSError.configuration("no TLS settings for \(serverName)")
        }
        return try ByteStream(
          socket, context, serverName: serverName, expecting: names.isEmpty ? .any : .names(names))
      }
    } catch {
      throw .tls(error.description)
    }
  }
}

extension ServingState {
  /// An identity, and the same workload in the trust domains that are taken for the mesh's own (Istio, `trustDomainAliases`).
  fileprivate func names(of identity: SPIFFEID) -> Set<SPIFFEID> {
    let aliases = snapshot.settings.workloadTLS.aliases
    guard !aliases.isEmpty, let workload = identity.workload else { return [identity] }
    let others = aliases.compactMap { domain in
      try? SPIFFEID.workload(trustDomain: domain, namespace: workload.namespace, serviceAccount: workload.serviceAccount)
    }
    return Set(others).union([identity])
  }
}

extension ProxyError.ConnectFailure: Error {}

extension Duration? {
  /// At least one second; 0 for none.
  fileprivate var wholeSeconds: Int32 { map { Int32(clamping: max(1, $0.components.seconds)) } ?? 0 }
}
