import HTTPCodec
import MeshConfig
import Primitives
import Transport

/// The client's side of one request, whatever it speaks: an HTTP/1 connection between two heads, or a stream of an HTTP/2
/// connection. The exchange pulls the request's body from it, as far as it has room, and hands it the answer.
///
/// All calls come on the worker's thread. Nothing is on the wire before `flush`, and nothing needs to be after it.
protocol Downstream: AnyObject {
  /// The next event of the request's body. Data is handed to `Exchange.requestBody` before this returns.
  func nextBodyEvent() throws(MessageError) -> BodyEvent
  /// After `end`: what followed the body.
  var requestTrailers: HeaderBlock? { get }
  /// Every byte of the request was taken.
  var requestIsComplete: Bool { get }

  /// An interim (1xx) response.
  func interim(_ head: borrowing ResponseHead)
  /// The final response's head. `framing` says how its body ends; `closing` that the client should connect anew.
  ///
  /// - Returns: its bytes on the wire, as far as they are known.
  func respond(_ head: borrowing ResponseHead, closing: Bool) -> Int
  /// Bytes of the response's body, or of a tunnel.
  func write(_ body: UnsafeBufferPointer<UInt8>)
  func end(trailers: HeaderBlock?)
  /// Bytes the client has not taken; `Exchange.clientCanTakeMore` tells when there is room again.
  var pendingOutput: Int { get }
  func flush()
  /// After the head of a response that switches protocols: what comes and goes now is the body of a tunnel.
  func beginTunnel()
  /// Gives up the whole connection, which after a CONNECT carries nothing else; nil where it carries other requests.
  func giveSocket() -> SocketEnd?

  /// Something moved: the stream idle timeout starts anew.
  func touch()
  /// The exchange is over and its answer whole. `keepAlive` is false when the connection cannot serve another.
  func exchangeEnded(keepAlive: Bool)
  /// Ends at once; an answer under way is seen as cut, never as complete.
  func abort()
}

/// A step in the body of a message.
enum BodyEvent {
  case data
  /// Nothing more can be read now.
  case needMore
  case end
}

/// Who is at the other end of a client connection: all of its requests have it in common.
final class Caller {
  let port: ListeningPort
  let address: SocketAddress
  /// Where it connected to.
  let localAddress: SocketAddress
  /// TLS is on, and ends here.
  let isTLS: Bool
  /// The gateway server whose certificate the client was shown (`GatewayListener.server`); empty without one.
  let server: String
  /// Who it proved to be, on the mesh port: known after the handshake.
  var peer: MeshPeer?
  /// What its connection says of its TLS, for those who ask; nil without, and before the handshake.
  var tls: TLSSession?
  /// Requests come as streams of one HTTP/2 connection.
  var isHTTP2 = false

  /// What its connection was opened for, where its requests do not say so: inside a CONNECT or behind a forwarded port.
  struct Destination {
    var host: [UInt8]
    var port: UInt16
  }
  var destination: Destination?
  /// It was found inside an opaque connection.
  var isInner = false
  /// Which workload that connection was for, by `WorkloadFacts.key`; what its requests say of that does not count.
  var sourceKey: [UInt8]?

  /// Of its last request: what it said of its workload, and which that is in the state of this number.
  var lastSource: (generation: UInt64, key: [UInt8], index: WorkloadIndex)?
  /// What `x-forwarded-client-cert` says of it, in the state of this number.
  var certificateText: (generation: UInt64, text: [UInt8])?

  /// At a gateway that asks for one, the client's own, verified.
  var certificate: Certificate?
  /// The issuers that it showed, where the mesh's configuration has them told.
  var certificateIssuers: [Certificate] = []
  /// What the gateway says of that.
  var certificateElement: (details: MeshConfiguration.ProxyDefaults.CertificateDetails, text: [UInt8])?

  /// What an application of this node is told of it, in the state of this number.
  var introduction: (generation: UInt64, workload: WorkloadIndex, text: [UInt8])?

  /// Where its requests go by, in the state of this number.
  fileprivate var lastGateway: (generation: UInt64, index: Int?)?

  /// Tells its connection from others of this process, once somebody has asked (`%CONNECTION_ID%`).
  var connectionNumber: UInt64?

  /// Its IP address, for `x-forwarded-for`.
  private(set) lazy var ipText: [UInt8] = address.ip.map { Array($0.description.utf8) } ?? []
  private(set) lazy var addressText = address.description
  private(set) lazy var localAddressText = localAddress.description

  init(
    _ address: SocketAddress, connectedTo local: SocketAddress, isTLS: Bool, on port: ListeningPort, server: String = ""
  ) {
    self.port = port
    self.address = address
    localAddress = local
    self.isTLS = isTLS
    self.server = server
  }
}

extension Caller {
  /// Who it is, and where it connected to, as a PROXY header.
  func proxyHeader(_ version: ProxyProtocolVersion) -> [UInt8] {
    var header = ProxyProtocol.unknown
    if case .ip(let source, let port) = address, case .ip(let target, let targetPort) = localAddress {
      header = ProxyProtocol(
        source: ProxyProtocol.End(address: source.unmapped.bytes, port: port),
        destination: ProxyProtocol.End(address: target.unmapped.bytes, port: targetPort))
    }
    var bytes: [UInt8] = []
    header.write(version == .v1 ? .v1 : .v2, into: &bytes)
    return bytes
  }

  /// The gateway listener that requests go by, an index into the snapshot's; nil when there is none any more.
  func gateway(in state: ServingState) -> Int? {
    if let known = lastGateway, known.generation == state.generation { return known.index }
    guard case .gateway(let number, let bind) = port.listener.kind else { return nil }
    let index = state.snapshot.gateways.firstIndex {
      $0.port == number && $0.bind == bind && (server.isEmpty || $0.server == server)
    }
    lastGateway = (state.generation, index)
    return index
  }

  /// Whether a request is for a host of another server than the one whose certificate the client was shown: its policies
  /// are not this connection's (RFC 9110 15.5.20).
  func isMisdirected(_ host: [UInt8], _ gateway: Int, _ snapshot: MeshSnapshot) -> Bool {
    guard !server.isEmpty, !snapshot.gateways[gateway].serverNames.contains(where: { $0.admits(host) }) else { return false }
    let place = snapshot.gateways[gateway].place
    return snapshot.gateways.contains { other in
      other.place == place && other.server != server && other.serverNames.contains { $0.admits(host) }
    }
  }
}

/// A client's connection as its worker and its port see it.
protocol ClientConnection: AnyObject {
  var caller: Caller { get }
  /// Does what there is to do; for connections that gave way to others in an earlier turn.
  func process()
  /// Lets go of an old state: a connection that waits must not keep it alive.
  func adopt(_ state: ServingState)
  /// Since when nothing of worth has gone on: no request is under way, or one comes too slowly. Nil when it is busy.
  var evictableSince: Instant? { get }
  /// The listener goes: what is under way is finished, and the client told to connect elsewhere.
  func drain()
  func close()
}
