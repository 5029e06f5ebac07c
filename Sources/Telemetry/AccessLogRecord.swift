import Primitives

/// The protocol a log line names.
public enum LoggedProtocol: Hashable, Sendable {
  case http10, http11, http2
  /// Opaque TCP, shown as missing.
  case tcp

  var text: StaticString? {
    switch self {
    case .http10: "HTTP/1.0"
    case .http11: "HTTP/1.1"
    case .http2: "HTTP/2"
    case .tcp: nil
    }
  }
}

/// The numbers of one finished request or connection.
public struct AccessLogRecord: Hashable, Sendable {
  /// Milliseconds since 1970-01-01 UTC.
  public var startMilliseconds: UInt64
  public var loggedProtocol: LoggedProtocol
  /// 0 when no response was sent.
  public var responseCode: UInt16
  public var flags: ResponseFlags
  /// Body bytes for HTTP, all bytes for TCP.
  public var bytesReceived: UInt64
  public var bytesSent: UInt64
  /// Whole milliseconds.
  public var durationMilliseconds: UInt64
  /// Whole milliseconds from the request's end to the response's first byte upstream; nil when no upstream answered.
  public var upstreamServiceMilliseconds: UInt64?

  public init(
    startMilliseconds: UInt64, loggedProtocol: LoggedProtocol, responseCode: UInt16, flags: ResponseFlags = [],
    bytesReceived: UInt64 = 0, bytesSent: UInt64 = 0, durationMilliseconds: UInt64 = 0,
    upstreamServiceMilliseconds: UInt64? = nil
  ) {
    self.startMilliseconds = startMilliseconds
    self.loggedProtocol = loggedProtocol
    self.responseCode = responseCode
    self.flags = flags
    self.bytesReceived = bytesReceived
    self.bytesSent = bytesSent
    self.durationMilliseconds = durationMilliseconds
    self.upstreamServiceMilliseconds = upstreamServiceMilliseconds
  }
}

/// The texts a line may show. All are untrusted: the writer escapes them.
public enum AccessLogText: Hashable, Sendable {
  case method
  /// The path before a rewrite (`x-envoy-original-path`), or the path as it is.
  case originalPath
  case responseCodeDetails, connectionTerminationDetails, upstreamTransportFailureReason
  case forwardedFor, userAgent, requestID, authority
  case upstreamHost, upstreamCluster, upstreamLocalAddress, downstreamLocalAddress, downstreamRemoteAddress
  case requestedServerName, routeName
  /// A request header by lower-case name.
  case requestHeader(String)
  /// What is asked for more rarely.
  case command(CommandOperator)
}

/// Gives the texts of one request. A connection's state implements it over its own buffers, so nothing is copied twice.
public protocol AccessLogTexts {
  /// Appends the raw bytes of `field`, or nothing when it is missing.
  func append(_ field: AccessLogText, to out: inout [UInt8])
}
