/// A value of one request or connection that configuration names (Envoy, "Command operators"), in header values and in
/// access logs.
public enum CommandOperator: Hashable, Sendable {
  public enum Message: Hashable, Sendable { case request, response, trailers }
  /// The first that is there of two fields, lower-case names.
  case field(Message, [UInt8], else: [UInt8]?, hasQuery: Bool)
  /// Bytes of all names and values.
  case headBytes(Message)

  public enum PathSource: String, CaseIterable, Sendable {
    case original = "ORIG"
    case current = "PATH"
    case originalOrCurrent = "ORIG_OR_PATH"
  }
  case path(PathSource, hasQuery: Bool)
  /// Everything after `?`.
  case query(isDecoded: Bool)
  case queryParameter([UInt8])

  public enum Moment: Hashable, Sendable { case started, written }
  case time(Moment, TimePattern?, isLocal: Bool)
  case duration(TimePoint, TimePoint, DurationUnit)

  /// Bytes from or to the client: bodies of HTTP, all of TCP.
  case bytesReceived, bytesSent
  public enum Way: Hashable, Sendable { case clientReceived, clientSent, upstreamReceived, upstreamSent }
  /// Heads and bodies, without the framing of bodies.
  case wireBytes(Way)
  /// Heads alone.
  case headerBytes(Way)

  case `protocol`, upstreamProtocol
  case responseCode
  case responseCodeDetails(keepsBlanks: Bool)
  case responseFlags(isLong: Bool)
  case terminationDetails, transportFailure
  case grpcStatus(GRPCStatusForm)
  case attempts
  case routeName, upstreamCluster
  /// The endpoint's name, or else its address.
  case upstreamName(hasPort: Bool)

  public enum Place: Hashable, Sendable { case clientDirect, client, clientLocal, upstream, upstreamLocal }
  public enum AddressPart: Hashable, Sendable {
    case whole, port
    /// The address, or the network of so many bits.
    case address(bits: UInt8?)
  }
  case address(Place, AddressPart)

  case requestedServerName(ServerNameSource, RequestHost)
  case hostName, traceID, streamID, connectionID, uniqueID
  /// When the line is written (`DownstreamEnd`).
  case logType

  public enum Side: Hashable, Sendable { case client, upstream }
  public enum TLSFact: Hashable, Sendable { case version, cipher, group, sessionID, serverName }
  case tls(Side, TLSFact)
  public enum CertificateOwner: Hashable, Sendable { case peer, own }
  case certificate(Side, CertificateOwner, CertificateFact)

  /// The first of them that has a value (`COALESCE`).
  case first([BoundedOperator])
  /// What only QUIC counts.
  case zero
  /// What Envoy knows and nothing here stands for.
  case absent
}

/// An operator, and the bytes of its value that are kept.
public struct BoundedOperator: Hashable, Sendable {
  public let command: CommandOperator
  public let max: Int?
}

/// Points in the life of a request (Envoy, `COMMON_DURATION`).
public enum TimePoint: Hashable, Sendable {
  case requestBegan, requestEnded, tryBegan, sendBegan, sendEnded, responseBegan, responseEnded, answerBegan, answerEnded
  case now

  static let names: [String: TimePoint] = [
    "DS_RX_BEG": .requestBegan, "DS_RX_END": .requestEnded, "US_TX_BEG": .sendBegan, "US_TX_END": .sendEnded,
    "US_RX_BEG": .responseBegan, "US_RX_END": .responseEnded, "DS_TX_BEG": .answerBegan, "DS_TX_END": .answerEnded,
    "DS_CX_BEG": .requestBegan, "DS_CX_END": .answerEnded,
  ]
  /// What Envoy knows besides: the making of connections, which later requests find made.
  static let absent: Set<String> = ["US_CX_BEG", "US_CX_END", "US_HS_END", "US_RX_BODY_BEG"]
}

public enum DurationUnit: String, CaseIterable, Sendable {
  case milliseconds = "ms"
  case microseconds = "us"
  case nanoseconds = "ns"

  public var nanoseconds: Int64 {
    switch self {
    case .milliseconds: 1_000_000
    case .microseconds: 1000
    case .nanoseconds: 1
    }
  }
}

public enum ServerNameSource: String, CaseIterable, Sendable {
  case serverName = "SNI_ONLY"
  case serverNameFirst = "SNI_FIRST"
  case hostFirst = "HOST_FIRST"
}

public enum RequestHost: String, CaseIterable, Sendable {
  case original = "ORIG"
  case current = "HOST"
  case originalOrCurrent = "ORIG_OR_HOST"
}

/// What a certificate says.
public enum CertificateFact: Hashable, Sendable {
  case uris, dnsNames, addresses, emails
  case subject, issuer, serial, sha256, sha1
  /// Of all certificates that the peer has shown.
  case chainSerials, chainSHA256, chainSHA1
  /// PEM, escaped as in a URL.
  case pem
  case notBefore(TimePattern?)
  case notAfter(TimePattern?)
}

/// How a gRPC status is written.
public enum GRPCStatusForm: String, CaseIterable, Sendable {
  case camel = "CAMEL_STRING"
  case snake = "SNAKE_STRING"
  case number = "NUMBER"

  public static let snakeNames = [
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED",
  ]
  private static let camelNames = [
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied",
    "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable",
    "DataLoss", "Unauthenticated",
  ]

  public func text(of status: UInt8) -> String {
    let names = self == .camel ? Self.camelNames : Self.snakeNames
    return self != .number && names.indices.contains(Int(status)) ? names[Int(status)] : String(status)
  }
}

extension CommandOperator {
  /// Whether its value is a number in JSON.
  var isNumber: Bool {
    switch self {
    case .headBytes, .duration, .bytesReceived, .bytesSent, .wireBytes, .headerBytes, .responseCode, .attempts,
      .address(_, .port), .grpcStatus(.number), .connectionID, .zero:
      true
    default: false
    }
  }

  /// Whether a log asks for what is gone at a request's end unless somebody keeps it.
  var asksForPast: Bool {
    switch self {
    case .field(.response, _, _, _), .field(.trailers, _, _, _), .headBytes(.response), .headBytes(.trailers),
      .upstreamProtocol, .tls(.upstream, _), .certificate(.upstream, _, _):
      true
    case .duration(let from, let to, _): from.isPast || to.isPast
    case .first(let all): all.contains { $0.command.asksForPast }
    default: false
    }
  }
}

extension TimePoint {
  fileprivate var isPast: Bool {
    switch self {
    case .requestBegan, .requestEnded, .tryBegan, .answerEnded, .now: false
    case .sendBegan, .sendEnded, .responseBegan, .responseEnded, .answerBegan: true
    }
  }
}

/// Gives the values of operators; appends nothing for what there is not.
public protocol CommandValues {
  func append(_ command: CommandOperator, to out: inout [UInt8])
}

extension CommandValues {
  /// At most so many bytes of a value; of several operators the first that has one.
  public func append(_ command: CommandOperator, max: Int?, to out: inout [UInt8]) {
    let start = out.count
    if case .first(let all) = command {
      for one in all where out.count == start { append(one.command, max: one.max, to: &out) }
    } else {
      append(command, to: &out)
    }
    if let max, out.count - start > max { out.removeSubrange((start + max)...) }
  }
}
