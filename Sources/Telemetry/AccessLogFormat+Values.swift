// Which values of a line operators are. What nearly every format asks for has a value of its own, written without detours.
extension AccessLogFormat {
  private static let values: [CommandOperator: Value] = [
    .time(.started, nil, isLocal: false): .startTime, .protocol: .loggedProtocol, .responseCode: .responseCode,
    .responseFlags(isLong: false): .responseFlags, .bytesReceived: .bytesReceived, .bytesSent: .bytesSent,
    .duration(.requestBegan, .now, .milliseconds): .duration, serviceTime: .upstreamServiceTime,
    .responseCodeDetails(keepsBlanks: false): .text(.responseCodeDetails),
    .terminationDetails: .text(.connectionTerminationDetails), .transportFailure: .text(.upstreamTransportFailureReason),
    .address(.upstream, .whole): .text(.upstreamHost), .upstreamCluster: .text(.upstreamCluster),
    .address(.upstreamLocal, .whole): .text(.upstreamLocalAddress),
    .address(.clientLocal, .whole): .text(.downstreamLocalAddress),
    .address(.client, .whole): .text(.downstreamRemoteAddress),
    .requestedServerName(.serverName, .originalOrCurrent): .text(.requestedServerName), .routeName: .text(.routeName),
    .absent: .missing,
  ]

  /// The proxy's own field of a response, which it knows without looking.
  static let serviceTime = CommandOperator.field(
    .response, Array("x-envoy-upstream-service-time".utf8), else: nil, hasQuery: true)

  private static let knownFields: [String: AccessLogText] = [
    ":method": .method, ":authority": .authority, "x-forwarded-for": .forwardedFor, "user-agent": .userAgent,
    "x-request-id": .requestID,
  ]

  static func value(of command: CommandOperator, max: Int?) -> Value {
    let texts = texts(of: command)
    if let max { return .chosen(texts.first, otherwise: texts.second, bytesMax: max) }
    if let value = values[command] { return value }
    guard let second = texts.second else { return .text(texts.first) }
    return .chosen(texts.first, otherwise: second, bytesMax: TelemetryLimits.accessLogFieldBytesMax)
  }

  private static func texts(of command: CommandOperator) -> (first: AccessLogText, second: AccessLogText?) {
    guard case .field(.request, let name, let other, hasQuery: true) = command else { return (.command(command), nil) }
    let first = String(decoding: name, as: UTF8.self)
    let second = other.map { String(decoding: $0, as: UTF8.self) }
    if first == "x-envoy-original-path", second == ":path" { return (.originalPath, nil) }
    return (text(of: first), second.map(text))
  }

  private static func text(of field: String) -> AccessLogText {
    if let known = knownFields[field] { return known }
    let isPlain = field.first != ":" && field != "x-envoy-original-path"
    return isPlain ? .requestHeader(field) : .command(.field(.request, Array(field.utf8), else: nil, hasQuery: true))
  }

  /// Headers whose values are secrets: never written, whatever the format says.
  private static let secretHeaders: Set<String> = ["authorization", "proxy-authorization", "cookie", "set-cookie"]

  static func refuseSecrets(_ command: CommandOperator) throws(AccessLogFormatError) {
    switch command {
    case .field(_, let name, let other, _):
      for name in [name, other ?? []].map({ String(decoding: $0, as: UTF8.self) }) where secretHeaders.contains(name) {
        throw AccessLogFormatError(description: "'\(name)' holds secrets and is never logged")
      }
    case .first(let all): for one in all { try refuseSecrets(one.command) }
    default: break
    }
  }
}
