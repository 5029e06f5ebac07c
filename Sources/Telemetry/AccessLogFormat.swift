import Primitives

/// Why a format string was refused.
public struct AccessLogFormatError: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String
  public init(description: String) { self.description = description }
}

/// A compiled access-log format: what to write, in order (Envoy's command operators).
public struct AccessLogFormat: Hashable, Sendable {
  enum Value: Hashable, Sendable {
    case text(AccessLogText)
    /// The first text, or the other where there is none; at most so many bytes.
    case chosen(AccessLogText, otherwise: AccessLogText?, bytesMax: Int)
    case startTime, loggedProtocol, responseCode, responseFlags, bytesReceived, bytesSent, duration, upstreamServiceTime
    /// An operator that nothing here stands for.
    case missing
  }

  enum Item: Hashable, Sendable {
    case literal([UInt8])
    case value(Value)
  }

  enum Layout: Hashable, Sendable {
    case text([Item])
    case json([Piece])
  }

  /// A part of a line in JSON.
  enum Piece: Hashable, Sendable {
    /// Braces, keys, and what is the same in each line.
    case raw([UInt8])
    /// A value with its own type.
    case value(Value)
    /// A string of values and what stands between them.
    case string([Item])
  }

  let layout: Layout
  /// A missing value is written as nothing, and its key left out, where others write `-` and `null` (Envoy,
  /// `omit_empty_values`).
  public var omitsMissing = false
  /// Operators of the format for which every line says that there is no value.
  public let unknownOperators: [String]

  /// Istio's TEXT format string.
  public static let istioText = """
    [%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% \
    %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% \
    %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" \
    "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
    %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%

    """

  /// Istio's default line, in TEXT.
  public static let text = AccessLogFormat(layout: .text(defaultItems))

  private static let defaultItems: [Item] = {
    var unknown: [String] = []
    return (try? items(of: istioText, unknown: &unknown)) ?? []
  }()

  /// Istio's default line, in JSON: one object a line.
  public static let json = AccessLogFormat(
    layout: .json(
      members([
        ("start_time", .startTime), ("route_name", .text(.routeName)), ("method", .text(.method)),
        ("path", .text(.originalPath)), ("protocol", .loggedProtocol), ("response_code", .responseCode),
        ("response_flags", .responseFlags), ("response_code_details", .text(.responseCodeDetails)),
        ("connection_termination_details", .text(.connectionTerminationDetails)), ("bytes_received", .bytesReceived),
        ("bytes_sent", .bytesSent), ("duration", .duration), ("upstream_service_time", .upstreamServiceTime),
        ("x_forwarded_for", .text(.forwardedFor)), ("user_agent", .text(.userAgent)), ("request_id", .text(.requestID)),
        ("authority", .text(.authority)), ("upstream_host", .text(.upstreamHost)),
        ("upstream_cluster", .text(.upstreamCluster)),
        ("upstream_local_address", .text(.upstreamLocalAddress)), ("downstream_local_address", .text(.downstreamLocalAddress)),
        ("downstream_remote_address", .text(.downstreamRemoteAddress)),
        ("requested_server_name", .text(.requestedServerName)),
        ("upstream_transport_failure_reason", .text(.upstreamTransportFailureReason)),
      ])))

  /// Compiles a format of one's own for lines of text. Headers that hold secrets are refused.
  public init(text format: String) throws(AccessLogFormatError) {
    try Self.checkSize(format.utf8.count)
    var unknown: [String] = []
    layout = .text(try Self.items(of: format, unknown: &unknown))
    unknownOperators = unknown
  }

  /// Compiles labels of one's own for lines of JSON (Istio, `logFormat.labels`). Headers that hold secrets are refused.
  public init(labels: [AccessLogLabel.Entry]) throws(AccessLogFormatError) {
    var unknown: [String] = []
    var pieces: [Piece] = []
    try Self.append(.object(labels), to: &pieces, unknown: &unknown)
    layout = .json(pieces + [.raw([0x0A])])
    unknownOperators = unknown
    try Self.checkSize(pieces.reduce(0) { $0 + $1.size })
  }

  private init(layout: Layout) {
    self.layout = layout
    unknownOperators = []
  }

  private static func checkSize(_ bytes: Int) throws(AccessLogFormatError) {
    guard bytes <= TelemetryLimits.accessLogFormatBytesMax else {
      throw AccessLogFormatError(description: "more than \(TelemetryLimits.accessLogFormatBytesMax) bytes")
    }
  }

  private static func members(_ list: [(String, Value)]) -> [Piece] {
    list.enumerated().flatMap { index, member -> [Piece] in
      [.raw(Array("\(index == 0 ? "{" : ",")\"\(member.0)\":".utf8)), .value(member.1)]
    } + [.raw(Array("}\n".utf8))]
  }

  /// One operator alone keeps its type; anything else is a string (Envoy, `json_format`).
  private static func append(
    _ label: AccessLogLabel, to pieces: inout [Piece], unknown: inout [String]
  ) throws(AccessLogFormatError) {
    switch label {
    case .constant(let json): pieces.append(.raw(Array(json.utf8)))
    case .text(let format):
      let items = try items(of: format, unknown: &unknown)
      if items.count == 1, case .value(let value) = items[0] {
        pieces.append(.value(value))
      } else {
        pieces.append(.string(items))
      }
    case .object(let entries):
      for (index, entry) in entries.enumerated() {
        pieces.append(.raw([index == 0 ? 0x7B : 0x2C] + AccessLogWriter.quoted(entry.key) + [0x3A]))
        try append(entry.value, to: &pieces, unknown: &unknown)
      }
      pieces.append(.raw(Array(entries.isEmpty ? "{}".utf8 : "}".utf8)))
    case .list(let values):
      for (index, value) in values.enumerated() {
        pieces.append(.raw([index == 0 ? 0x5B : 0x2C]))
        try append(value, to: &pieces, unknown: &unknown)
      }
      pieces.append(.raw(Array(values.isEmpty ? "[]".utf8 : "]".utf8)))
    }
  }

  private static func items(of format: String, unknown: inout [String]) throws(AccessLogFormatError) -> [Item] {
    var items: [Item] = []
    var literal: [UInt8] = []
    var rest = Array(format.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == 0x25 else {
        literal.append(byte)
        continue
      }
      if rest.first == 0x25 {
        rest.removeFirst()
        literal.append(0x25)
        continue
      }
      guard let end = rest.firstIndex(of: 0x25) else {
        throw AccessLogFormatError(description: "a '%' without its end; write '%%' for a percent sign")
      }
      if !literal.isEmpty { items.append(.literal(literal)) }
      literal = []
      let name = String(decoding: rest[..<end], as: UTF8.self)
      let value = try value(of: name)
      if value == .missing, !unknown.contains(name) { unknown.append(name) }
      items.append(.value(value))
      rest = rest[(end + 1)...]
    }
    if !literal.isEmpty { items.append(.literal(literal)) }
    return items
  }

  private static let plainOperators: [String: Value] = [
    "START_TIME": .startTime, "PROTOCOL": .loggedProtocol, "RESPONSE_CODE": .responseCode,
    "RESPONSE_FLAGS": .responseFlags, "BYTES_RECEIVED": .bytesReceived, "BYTES_SENT": .bytesSent, "DURATION": .duration,
    "RESPONSE_CODE_DETAILS": .text(.responseCodeDetails),
    "CONNECTION_TERMINATION_DETAILS": .text(.connectionTerminationDetails),
    "UPSTREAM_TRANSPORT_FAILURE_REASON": .text(.upstreamTransportFailureReason), "UPSTREAM_HOST": .text(.upstreamHost),
    "UPSTREAM_CLUSTER": .text(.upstreamCluster), "UPSTREAM_CLUSTER_RAW": .text(.upstreamCluster),
    "UPSTREAM_LOCAL_ADDRESS": .text(.upstreamLocalAddress), "DOWNSTREAM_LOCAL_ADDRESS": .text(.downstreamLocalAddress),
    "DOWNSTREAM_REMOTE_ADDRESS": .text(.downstreamRemoteAddress), "REQUESTED_SERVER_NAME": .text(.requestedServerName),
    "ROUTE_NAME": .text(.routeName), "UPSTREAM_REMOTE_ADDRESS": .text(.upstreamHost),
  ]

  private static let knownHeaders: [String: Value] = [
    ":method": .text(.method), "x-envoy-original-path?:path": .text(.originalPath), ":path": .text(.originalPath),
    ":authority": .text(.authority), "x-forwarded-for": .text(.forwardedFor), "user-agent": .text(.userAgent),
    "x-request-id": .text(.requestID),
  ]

  /// Headers whose values are secrets: never written, whatever the format says.
  private static let secretHeaders: Set<String> = ["authorization", "proxy-authorization", "cookie", "set-cookie"]

  private static func value(of name: String) throws(AccessLogFormatError) -> Value {
    if let value = plainOperators[name] { return value }
    let isRequest = name.hasPrefix("REQ(")
    guard isRequest || name.hasPrefix("RESP("), let end = name.lastIndex(of: ")") else { return .missing }
    let inner = String(decoding: name[..<end].utf8.dropFirst(isRequest ? 4 : 5).map(ASCII.lowercased), as: UTF8.self)
    if isRequest, let known = knownHeaders[inner], name.hasSuffix(")") { return known }
    if !isRequest, inner == "x-envoy-upstream-service-time" { return .upstreamServiceTime }
    // `REQ(X?Y):Z`: the field X, or Y where it is missing, cut to Z bytes.
    let parts = inner.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    let rest = name[end...].dropFirst()
    guard let max = rest.isEmpty ? TelemetryLimits.accessLogFieldBytesMax : rest.first == ":" ? Int(rest.dropFirst()) : nil,
      max > 0, let first = try field(parts[0], isRequest: isRequest)
    else { return .missing }
    guard parts.count > 1 else { return rest.isEmpty ? .text(first) : .chosen(first, otherwise: nil, bytesMax: max) }
    guard let second = try field(parts[1], isRequest: isRequest) else { return .missing }
    return .chosen(first, otherwise: second, bytesMax: max)
  }

  private static func field(_ name: String, isRequest: Bool) throws(AccessLogFormatError) -> AccessLogText? {
    if secretHeaders.contains(name) {
      throw AccessLogFormatError(description: "'\(name)' holds secrets and is never logged")
    }
    if isRequest, case .text(let known)? = knownHeaders[name] { return known }
    let isName = !name.isEmpty && name.utf8.allSatisfy { ASCII.isLowerAlphanumeric($0) || $0 == 0x2D || $0 == 0x5F }
    return isName ? isRequest ? .requestHeader(name) : .responseHeader(name) : nil
  }
}

extension AccessLogFormat.Piece {
  /// Bytes it was written with, about.
  fileprivate var size: Int {
    switch self {
    case .raw(let bytes): bytes.count
    case .value: 16
    case .string(let items):
      items.reduce(2) { sum, item in if case .literal(let bytes) = item { sum + bytes.count } else { sum + 16 } }
    }
  }
}

/// A value of a line in JSON, as it is written in a configuration.
public indirect enum AccessLogLabel: Hashable, Sendable {
  /// Operators and what stands between them.
  case text(String)
  /// JSON that is the same in each line: a number, `true`, `false`, `null`.
  case constant(String)
  case object([Entry])
  case list([AccessLogLabel])

  public struct Entry: Hashable, Sendable {
    public let key: String
    public let value: AccessLogLabel
    public init(key: String, value: AccessLogLabel) {
      self.key = key
      self.value = value
    }
  }
}
