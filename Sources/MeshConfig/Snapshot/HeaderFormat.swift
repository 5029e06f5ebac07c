/// A header value with parts that each request or response fills in (Envoy, command operators).
public struct HeaderFormat: Sendable, Hashable {
  public enum Part: Sendable, Hashable {
    case text([UInt8])
    /// `max`: bytes of the value that are kept.
    case command(HeaderCommand, max: Int?)
  }
  public let parts: [Part]
  /// Operators that nobody here knows; they stand for nothing.
  public let unknown: [String]

  /// nil when a `%` stands alone: a literal one is written `%%`.
  public init?(_ value: String) {
    var parts: [Part] = []
    var unknown: [String] = []
    var text: [UInt8] = []
    var rest = Array(value.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == 0x25 else {
        text.append(byte)
        continue
      }
      if rest.first == 0x25 {
        rest.removeFirst()
        text.append(0x25)
        continue
      }
      guard let written = Self.operatorText(&rest) else { return nil }
      guard let (command, max) = HeaderCommand.parse(written) else {
        unknown.append(written)
        continue
      }
      if !text.isEmpty { parts.append(.text(text)) }
      text = []
      parts.append(.command(command, max: max))
    }
    if !text.isEmpty || parts.isEmpty { parts.append(.text(text)) }
    self.parts = parts
    self.unknown = unknown
  }

  /// What stands up to the closing `%`; a `%` between brackets does not close.
  private static func operatorText(_ rest: inout ArraySlice<UInt8>) -> String? {
    var isBracketed = false
    for (index, byte) in zip(rest.indices, rest) {
      switch byte {
      case 0x28: isBracketed = true
      case 0x29: isBracketed = false
      case 0x25 where !isBracketed:
        defer { rest = rest[(index + 1)...] }
        return String(decoding: rest[..<index], as: UTF8.self)
      default: break
      }
    }
    return nil
  }

  /// The value where nothing has to be filled in.
  var fixed: [UInt8]? {
    if case .text(let text) = parts.first, parts.count == 1 { text } else { nil }
  }
}

/// One operator of a header value.
public enum HeaderCommand: Sendable, Hashable {
  /// The first that is there of two fields, lower-case names.
  case requestHeader([UInt8], else: [UInt8]?)
  case responseHeader([UInt8], else: [UInt8]?)
  /// The path without its query.
  case requestPath
  /// In UTC; nil: `2026-01-31T12:00:00.123Z`.
  case startTime(pattern: String?)
  case httpProtocol, responseCode, responseFlags, responseCodeDetails
  case downstreamRemoteAddress, downstreamRemoteIP, downstreamRemotePort
  case downstreamLocalAddress, downstreamLocalIP, downstreamLocalPort
  /// The client's identity, as its certificate says it.
  case downstreamPeerURI, downstreamLocalURI
  case requestedServerName
  case upstreamAddress, upstreamIP, upstreamPort, upstreamCluster
  case routeName, hostName

  private static let plain: [String: HeaderCommand] = [
    "START_TIME": .startTime(pattern: nil), "PROTOCOL": .httpProtocol, "RESPONSE_CODE": .responseCode,
    "RESPONSE_FLAGS": .responseFlags, "RESPONSE_CODE_DETAILS": .responseCodeDetails,
    "DOWNSTREAM_REMOTE_ADDRESS": .downstreamRemoteAddress, "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": .downstreamRemoteAddress,
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": .downstreamRemoteIP,
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": .downstreamRemoteIP, "DOWNSTREAM_REMOTE_PORT": .downstreamRemotePort,
    "DOWNSTREAM_DIRECT_REMOTE_PORT": .downstreamRemotePort, "DOWNSTREAM_LOCAL_ADDRESS": .downstreamLocalAddress,
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": .downstreamLocalIP, "DOWNSTREAM_LOCAL_PORT": .downstreamLocalPort,
    "DOWNSTREAM_PEER_URI_SAN": .downstreamPeerURI, "DOWNSTREAM_LOCAL_URI_SAN": .downstreamLocalURI,
    "REQUESTED_SERVER_NAME": .requestedServerName, "UPSTREAM_HOST": .upstreamAddress,
    "UPSTREAM_REMOTE_ADDRESS": .upstreamAddress, "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": .upstreamIP,
    "UPSTREAM_REMOTE_PORT": .upstreamPort, "UPSTREAM_CLUSTER": .upstreamCluster, "UPSTREAM_CLUSTER_RAW": .upstreamCluster,
    "ROUTE_NAME": .routeName, "HOSTNAME": .hostName, "PATH": .requestPath,
  ]

  /// `NAME`, `NAME(argument)` or `NAME(argument):length`.
  fileprivate static func parse(_ text: String) -> (command: HeaderCommand, max: Int?)? {
    if let command = plain[text] { return (command, nil) }
    guard let open = text.firstIndex(of: "("), let close = text.lastIndex(of: ")"), open < close else { return nil }
    let argument = String(text[text.index(after: open)..<close])
    let tail = text[text.index(after: close)...]
    var max: Int?
    if tail.hasPrefix(":") {
      max = Int(tail.dropFirst())
      if max.map({ $0 < 0 }) ?? true { return nil }
    } else if !tail.isEmpty {
      return nil
    }
    switch text[..<open] {
    case "REQ", "REQUEST_HEADER": return fields(argument).map { (.requestHeader($0.first, else: $0.second), max) }
    case "RESP", "RESPONSE_HEADER": return fields(argument).map { (.responseHeader($0.first, else: $0.second), max) }
    case "REQ_WITHOUT_QUERY" where argument.lowercased().hasSuffix(":path"): return (.requestPath, max)
    case "START_TIME": return TimePattern.isKnown(argument) ? (.startTime(pattern: argument), max) : nil
    default: return nil
    }
  }

  /// `name` or `name?other`.
  private static func fields(_ argument: String) -> (first: [UInt8], second: [UInt8]?)? {
    let names = argument.lowercased().split(separator: "?", omittingEmptySubsequences: false).map(String.init)
    let isName: (String) -> Bool = { NameForm.isFieldName($0.hasPrefix(":") ? String($0.dropFirst()) : $0) }
    guard (1...2).contains(names.count), names.allSatisfy(isName) else { return nil }
    return (Array(names[0].utf8), names.count == 2 ? Array(names[1].utf8) : nil)
  }
}

/// Patterns of `START_TIME(…)`: the directives of `strftime` that say when, and Envoy's parts of a second.
public enum TimePattern {
  static func isKnown(_ pattern: String) -> Bool {
    var isKnown = !pattern.isEmpty
    forEach(pattern) { _ in
    } directive: {
      if !directives.contains($0) { isKnown = false }
    }
    return isKnown
  }

  private static let directives: Set<String> = [
    "Y", "m", "d", "H", "M", "S", "F", "T", "Z", "z", "s", "f", "3f", "6f", "9f", "E3S", "%",
  ]

  /// Calls `literal` with bytes, and `directive` with what stands after a `%`.
  public static func forEach(_ pattern: String, literal: (UInt8) -> Void, directive: (String) -> Void) {
    var rest = Array(pattern.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == 0x25, let next = rest.popFirst() else {
        literal(byte)
        continue
      }
      var name = [next]
      if (0x31...0x39).contains(next), let unit = rest.popFirst() { name.append(unit) }
      if next == 0x45 { name += [rest.popFirst(), rest.popFirst()].compactMap { $0 } }
      directive(String(decoding: name, as: UTF8.self))
    }
  }
}
