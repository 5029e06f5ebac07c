import Glibc

/// How much the data plane may take of its host. The defaults follow from the process's own limits.
public struct OverloadLimits: Sendable, Hashable {
  /// Resident bytes of the process.
  public var memoryBytes: Int
  /// Client connections of all workers.
  public var connections: Int
  /// Client connections from one address that is not this host: no client can take them all.
  public var connectionsPerSource: Int
  /// Descriptor number from which on no client is taken; those above are kept for links, storage and upstream connections.
  public var descriptors: Int

  /// Percent of the memory or of the connections from which on idle connections make room, and clients connect anew (Envoy's
  /// example begins to disable keep-alive there).
  static let strainPercent = 85
  /// Percent of the memory at which new requests are refused, and at which new connections are closed; the rest is for
  /// requests under way (Envoy's example: 95 and 98).
  static let refusePercent = 95
  static let closePercent = 98
  /// Descriptors kept from clients: links of a large cluster, the disk, and upstream connections of the requests under way.
  static let descriptorReserve = 512
  /// Between two looks at memory.
  static let interval: Duration = .milliseconds(250)
  /// Before idle connections are looked for again, after there were none.
  static let evictionPause: Duration = .milliseconds(10)
  /// Idle connections that go at once, as a part of all: looking through all of them is worth it then.
  static let evictionShare = 16
  /// A request body that came more slowly than this is the first to go when room is needed (Kestrel's `MinRequestBodyDataRate`).
  static let bodyBytesPerSecondMin = 240.0
  /// How long a body may take its time before its rate is judged.
  static let bodyGrace: Duration = .seconds(5)

  public init(memoryBytes: Int, connections: Int, connectionsPerSource: Int, descriptors: Int) {
    self.memoryBytes = memoryBytes
    self.connections = connections
    self.connectionsPerSource = connectionsPerSource
    self.descriptors = descriptors
  }

  /// From the control group, the host's memory and the limit of open files.
  public static func ofThisProcess() -> OverloadLimits {
    var files = rlimit()
    let descriptors = getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files) == 0 ? Int(clamping: files.rlim_cur) : 1024
    let usable = max(64, descriptors - descriptorReserve)
    // Half for clients: each may need an upstream connection.
    let connections = min(1_000_000, max(64, usable / 2))
    return OverloadLimits(
      memoryBytes: MemoryGauge.limit(), connections: connections, connectionsPerSource: max(32, connections / 2),
      descriptors: usable)
  }
}
