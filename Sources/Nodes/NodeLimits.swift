import MeshConfig
import Primitives
import Proxy

/// `limits` of the cluster file: what a node's proxy may hold, and for how long. What is absent keeps its default, which follows
/// the host where that makes sense.
public struct NodeLimits: Sendable, Hashable {
  /// Resident memory at which the node begins to turn clients away (default: the control group's limit, or the host's memory).
  public var memoryMegabytes: Int?
  /// Client connections (default: half of the open files that are left for clients).
  public var connections: Int?
  /// Client connections from one address that is not this host (default: half of all).
  public var connectionsPerSource: Int?
  /// For the head of a request (default: 15).
  public var headerSeconds: Int?
  /// For a TLS handshake, or the first bytes of a connection (default: 10).
  public var handshakeSeconds: Int?
  /// Between two requests of a client (default: 3600).
  public var idleSeconds: Int?
  /// Without a byte in either direction while a request is under way (default: none, as in Istio's mesh).
  public var streamIdleSeconds: Int?

  public init() {}

  init(_ node: YAMLNode, path: String) throws(ClusterFileError) {
    var object = try ClusterFileObject(node, path: path, what: "limits")
    let seconds: ClosedRange<UInt64> = 1...86_400
    memoryMegabytes = try object.optionalNumber("memoryMegabytes", in: 32...16_777_216).map { Int($0) }
    connections = try object.optionalNumber("connections", in: 16...1_000_000).map { Int($0) }
    connectionsPerSource = try object.optionalNumber("connectionsPerSource", in: 1...1_000_000).map { Int($0) }
    headerSeconds = try object.optionalNumber("headerSeconds", in: seconds).map { Int($0) }
    handshakeSeconds = try object.optionalNumber("handshakeSeconds", in: seconds).map { Int($0) }
    idleSeconds = try object.optionalNumber("idleSeconds", in: seconds).map { Int($0) }
    streamIdleSeconds = try object.optionalNumber("streamIdleSeconds", in: seconds).map { Int($0) }
    try object.finish()
    if let connections, let connectionsPerSource, connectionsPerSource > connections {
      throw object.problem(
        "connectionsPerSource", "must not be more than connections (\(connections)): one client could take them all")
    }
  }

  func apply(to options: inout ProxyOptions) {
    if let memoryMegabytes { options.overload.memoryBytes = memoryMegabytes << 20 }
    if let connections {
      options.overload.connections = connections
      options.overload.connectionsPerSource = min(options.overload.connectionsPerSource, max(32, connections / 2))
    }
    if let connectionsPerSource { options.overload.connectionsPerSource = connectionsPerSource }
    if let headerSeconds { options.headerTimeout = .seconds(headerSeconds) }
    if let handshakeSeconds { options.handshakeTimeout = .seconds(handshakeSeconds) }
    if let idleSeconds { options.idleTimeout = .seconds(idleSeconds) }
    if let streamIdleSeconds { options.streamIdleTimeout = .seconds(streamIdleSeconds) }
  }
}
