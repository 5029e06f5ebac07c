import Telemetry

/// Applied in the order remove, set, add (Istio).
public struct HeaderOperations: Sendable, Hashable {
  /// Lower-case names.
  public var remove: [[UInt8]]
  public var set: [Field]
  public var add: [Field]
  public struct Field: Sendable, Hashable {
    public var name: [UInt8]
    /// As it was written, where it has a format.
    public var value: [UInt8]
    /// What the value is made of, where it is not the same for every message.
    public var format: CommandFormat?
    public init(name: [UInt8], value: [UInt8], format: CommandFormat? = nil) {
      self.name = name
      self.value = value
      self.format = format
    }
  }
  public static let none = HeaderOperations(remove: [], set: [], add: [])
  public var isEmpty: Bool { remove.isEmpty && set.isEmpty && add.isEmpty }
  /// Whether some value depends on the message.
  public var hasFormats: Bool { add.contains { $0.format != nil } || self.set.contains { $0.format != nil } }
  public init(remove: [[UInt8]], set: [Field], add: [Field]) {
    self.remove = remove
    self.set = set
    self.add = add
  }
}

public struct RewritePolicy: Sendable {
  public var uri: URI?
  public var authority: [UInt8]?
  public enum URI: Sendable {
    /// Replaces the matched prefix literally, or the whole path for exact and regex matches.
    case replace([UInt8])
    /// RE2 substitution with `\1` groups.
    case regex(Pattern, substitution: [UInt8])
  }
  public init(uri: URI?, authority: [UInt8]?) {
    self.uri = uri
    self.authority = authority
  }
}

public struct RedirectPolicy: Sendable, Hashable {
  public var uri: [UInt8]?
  public var prefixRewrite: [UInt8]?
  public var authority: [UInt8]?
  public var scheme: [UInt8]?
  public var port: Port?
  public var status: UInt16
  public enum Port: Sendable, Hashable { case number(UInt16), fromProtocolDefault, fromRequestPort }
  public init(uri: [UInt8]?, prefixRewrite: [UInt8]?, authority: [UInt8]?, scheme: [UInt8]?, port: Port?, status: UInt16) {
    self.uri = uri
    self.prefixRewrite = prefixRewrite
    self.authority = authority
    self.scheme = scheme
    self.port = port
    self.status = status
  }
}

/// Percentages are 0…100 with a grain of 0.0001 (millionths), kept as parts per million.
public struct FaultPolicy: Sendable, Hashable {
  public var delay: (duration: Duration, partsPerMillion: UInt32)? {
    delayDuration.map { ($0, delayPartsPerMillion) }
  }
  public var delayDuration: Duration?
  public var delayPartsPerMillion: UInt32
  public var abort: Abort?
  public var abortPartsPerMillion: UInt32
  public enum Abort: Sendable, Hashable { case http(UInt16), grpc(UInt8) }
  public init(delayDuration: Duration?, delayPartsPerMillion: UInt32, abort: Abort?, abortPartsPerMillion: UInt32) {
    self.delayDuration = delayDuration
    self.delayPartsPerMillion = delayPartsPerMillion
    self.abort = abort
    self.abortPartsPerMillion = abortPartsPerMillion
  }
}

public struct MirrorPolicy: Sendable, Hashable {
  public var cluster: ClusterIndex?
  public var clusterName: String
  public var partsPerMillion: UInt32
  public init(cluster: ClusterIndex?, clusterName: String, partsPerMillion: UInt32) {
    self.cluster = cluster
    self.clusterName = clusterName
    self.partsPerMillion = partsPerMillion
  }
}

public struct CORSPolicy: Sendable {
  public var allowOrigins: [StringMatch]
  public var allowMethods: [String]
  public var allowHeaders: [String]
  public var exposeHeaders: [String]
  public var maxAge: Duration?
  public var allowCredentials: Bool?
  public var forwardUnmatchedPreflights: Bool
  public init(
    allowOrigins: [StringMatch], allowMethods: [String], allowHeaders: [String], exposeHeaders: [String], maxAge: Duration?,
    allowCredentials: Bool?, forwardUnmatchedPreflights: Bool
  ) {
    self.allowOrigins = allowOrigins
    self.allowMethods = allowMethods
    self.allowHeaders = allowHeaders
    self.exposeHeaders = exposeHeaders
    self.maxAge = maxAge
    self.allowCredentials = allowCredentials
    self.forwardUnmatchedPreflights = forwardUnmatchedPreflights
  }
}
