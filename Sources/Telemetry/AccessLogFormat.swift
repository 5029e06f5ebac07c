import Primitives

/// Why a format string was refused.
public struct AccessLogFormatError: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String
}

/// A compiled access-log format: what to write, in order (Envoy's command operators).
public struct AccessLogFormat: Hashable, Sendable {
  enum Value: Hashable, Sendable {
    case text(AccessLogText)
    case startTime, loggedProtocol, responseCode, responseFlags, bytesReceived, bytesSent, duration, upstreamServiceTime
  }

  enum Item: Hashable, Sendable {
    case literal([UInt8])
    case value(Value)
  }

  enum Layout: Hashable, Sendable {
    case text([Item])
    case json([Member])
  }

  struct Member: Hashable, Sendable {
    /// `"key":`, with the comma or brace before it.
    let prefix: [UInt8]
    let value: Value
  }

  let layout: Layout

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

  private static let defaultItems: [Item] = (try? items(of: istioText)) ?? []

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

  /// Compiles `MeshConfig.accessLogFormat`. Operators that are not known are refused, as are headers that hold secrets.
  public init(text format: String) throws(AccessLogFormatError) {
    guard format.utf8.count <= TelemetryLimits.accessLogFormatBytesMax else {
      throw AccessLogFormatError(
        description: "accessLogFormat has more than \(TelemetryLimits.accessLogFormatBytesMax) bytes")
    }
    layout = .text(try Self.items(of: format))
  }

  private init(layout: Layout) { self.layout = layout }

  private static func members(_ list: [(String, Value)]) -> [Member] {
    list.enumerated().map { index, member in
      Member(prefix: Array("\(index == 0 ? "{" : ",")\"\(member.0)\":".utf8), value: member.1)
    }
  }

  private static func items(of format: String) throws(AccessLogFormatError) -> [Item] {
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
        throw AccessLogFormatError(description: "accessLogFormat: a '%' without its end; write '%%' for a percent sign")
      }
      if !literal.isEmpty { items.append(.literal(literal)) }
      literal = []
      items.append(.value(try value(of: String(decoding: rest[..<end], as: UTF8.self))))
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
    "ROUTE_NAME": .text(.routeName),
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
    if isRequest || name.hasPrefix("RESP("), name.hasSuffix(")") {
      let header = String(decoding: name.utf8.dropFirst(isRequest ? 4 : 5).dropLast().map(ASCII.lowercased), as: UTF8.self)
      if secretHeaders.contains(header) {
        throw AccessLogFormatError(description: "accessLogFormat: '\(header)' holds secrets and is never logged")
      }
      if isRequest, let known = knownHeaders[header] { return known }
      if !isRequest, header == "x-envoy-upstream-service-time" { return .upstreamServiceTime }
      let isName = !header.isEmpty && header.utf8.allSatisfy { ASCII.isLowerAlphanumeric($0) || $0 == 0x2D || $0 == 0x5F }
      if isName { return .text(isRequest ? .requestHeader(header) : .responseHeader(header)) }
    }
    throw AccessLogFormatError(description: "accessLogFormat: operator '%\(name)%' is not known")
  }
}
