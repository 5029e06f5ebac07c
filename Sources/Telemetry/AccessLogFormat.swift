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
    /// Nothing here stands for it.
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

  private(set) var layout: Layout
  /// A missing value is written as nothing, and its key left out, where others write `-` and `null` (Envoy,
  /// `omit_empty_values`).
  public var omitsMissing = false
  /// Operators that Envoy refuses as well; every line says that they have no value.
  public private(set) var problems: [CommandProblem] = []
  /// Operators that are right, and for which every line says that there is no value.
  public private(set) var absent: [String] = []
  /// Whether it asks for what is gone at a request's end unless somebody keeps it.
  public private(set) var asksForPast = false

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
    var format = AccessLogFormat(layout: .text([]))
    return (try? format.items(of: istioText)) ?? []
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
    self.init(layout: .text([]))
    let items = try items(of: format)
    layout = .text(items)
  }

  /// Compiles labels of one's own for lines of JSON (Istio, `logFormat.labels`). Headers that hold secrets are refused.
  public init(labels: [AccessLogLabel.Entry]) throws(AccessLogFormatError) {
    self.init(layout: .json([]))
    var pieces: [Piece] = []
    try append(.object(labels), to: &pieces)
    try Self.checkSize(pieces.reduce(0) { $0 + $1.size })
    layout = .json(pieces + [.raw([0x0A])])
  }

  private init(layout: Layout) { self.layout = layout }

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
  private mutating func append(_ label: AccessLogLabel, to pieces: inout [Piece]) throws(AccessLogFormatError) {
    switch label {
    case .constant(let json): pieces.append(.raw(Array(json.utf8)))
    case .text(let format):
      let items = try items(of: format)
      if items.count == 1, case .value(let value) = items[0] {
        pieces.append(.value(value))
      } else {
        pieces.append(.string(items))
      }
    case .object(let entries):
      for (index, entry) in entries.enumerated() {
        pieces.append(.raw([index == 0 ? 0x7B : 0x2C] + AccessLogWriter.quoted(entry.key) + [0x3A]))
        try append(entry.value, to: &pieces)
      }
      pieces.append(.raw(Array(entries.isEmpty ? "{}".utf8 : "}".utf8)))
    case .list(let values):
      for (index, value) in values.enumerated() {
        pieces.append(.raw([index == 0 ? 0x5B : 0x2C]))
        try append(value, to: &pieces)
      }
      pieces.append(.raw(Array(values.isEmpty ? "[]".utf8 : "]".utf8)))
    }
  }

  private mutating func items(of format: String) throws(AccessLogFormatError) -> [Item] {
    guard let parsed = CommandFormat(format) else {
      throw AccessLogFormatError(description: "a '%' without its end; write '%%' for a percent sign")
    }
    for problem in parsed.problems where !problems.contains(problem) { problems.append(problem) }
    for name in parsed.absent where !absent.contains(name) { absent.append(name) }
    if format.isEmpty { return [] }
    var items: [Item] = []
    for part in parsed.parts {
      switch part {
      case .text(let text): items.append(.literal(text))
      case .command(let command, let max):
        try Self.refuseSecrets(command)
        if command.asksForPast, max != nil || command != Self.serviceTime { asksForPast = true }
        items.append(.value(Self.value(of: command, max: max)))
      }
    }
    return items
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
