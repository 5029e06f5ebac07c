import HTTPCodec
import MeshConfig
import Primitives
import Traffic
import Transport

// What a MeshConfig says of the fields that a proxy writes and believes (Istio, `gatewayTopology` and `proxyHeaders`).
extension Exchange {
  private var written: MeshConfiguration.ProxyDefaults.Headers { snapshot.settings.proxy.headers }

  /// The client's address as the proxies in front of this gateway tell it; nil where none is trusted or none says.
  var trustedClient: IPAddress? {
    guard isGateway, let hops = snapshot.settings.proxy.trustedProxies, hops > 0 else { return nil }
    // Our own entry, the peer's address, stands last by now.
    guard let value = head.headers.value(.forwardedFor) else { return nil }
    return ForwardedAddress.client(head.headers.copy(value), trusting: hops).flatMap { IPAddress($0) }
  }

  /// Whether a trusted proxy in front of this gateway has said by what protocol its client came.
  var trustsForwardedProtocol: Bool {
    guard let hops = snapshot.settings.proxy.trustedProxies, hops > 0 else { return false }
    return head.headers.contains(.forwardedProto)
  }

  /// At gateways.
  var keepsClientCertificateField: Bool { snapshot.settings.proxy.gatewayClientCertificate == .alwaysForwardOnly }

  /// What the application reads in `x-forwarded-client-cert`: what was there, and who called.
  func forwardClientCertificate(_ peer: MeshPeer, _ target: InboundTarget) {
    switch written.clientCertificate {
    case nil, .undefined, .appendForward: appendClientCertificate(peer, target)
    case .sanitize: head.headers.remove(.forwardedClientCert)
    case .forwardOnly, .alwaysForwardOnly: break
    case .sanitizeSet:
      head.headers.remove(.forwardedClientCert)
      appendClientCertificate(peer, target)
    }
  }

  /// Adds the host that a client asked for to `x-forwarded-host`, where another takes its place (Istio, `xForwardedHost`).
  func tellHost(before authority: [UInt8]) {
    guard written.tellsHost else { return }
    let host = head.headers.copy(head.host)
    if host == authority { return }
    let said = head.headers.joined(.forwardedHost)
    head.headers.set(Names.forwardedHost, said.isEmpty ? host : said + Array(", ".utf8) + host)
  }

  /// Sets `x-forwarded-port` at a gateway, unless a trusted proxy in front of it has (Istio, `xForwardedPort`).
  func tellPort() {
    guard written.tellsPort, let port = caller.localAddress.port, let name = Names.forwardedPort else { return }
    let trustsOthers = (snapshot.settings.proxy.trustedProxies ?? 0) > 0
    if trustsOthers, head.headers.value(name) != nil { return }
    head.headers.set(name, Array(String(port).utf8))
  }

  /// Sets `server`, or leaves the application's.
  func nameServer(_ headers: inout HeaderBlock) {
    if written.keepsServer { return }
    if let name = written.server {
      headers.set(Names.server, Array(name.utf8))
    } else {
      headers.set(inbound != nil || isGateway ? Names.serverIstioEnvoy : Names.serverEnvoy)
    }
  }
}

extension ServingState {
  /// Of connections that are opened from now on.
  var pathNormalization: PathNormalization { PathNormalization(snapshot.settings.pathNormalization) }
}

extension PathNormalization {
  init(_ mode: PathNormalizationMode) {
    switch mode {
    case .none: self = .none
    case .byDefault, .base: self = .base
    case .mergeSlashes: self = .mergeSlashes
    case .decodeAndMergeSlashes: self = .decodeAndMergeSlashes
    }
  }
}
