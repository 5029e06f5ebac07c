import Primitives

// What stands between the brackets of an operator.
extension CommandOperator {
  enum QueryForm: String, CaseIterable {
    case original = "ORIG"
    case decoded = "DECODED"
  }

  /// One of several words; nothing means the usual one.
  static func choice<Word: RawRepresentable<String>>(
    _ written: String, of words: [Word], or usual: Word
  ) throws(CommandArgumentError) -> Word {
    if written.isEmpty { return usual }
    if let word = words.first(where: { $0.rawValue == written }) { return word }
    let all = words.map(\.rawValue)
    throw CommandArgumentError(
      reason: "has the argument '\(written.prefix(40))', which is not one of \(all.joined(separator: ", "))",
      hint: Spelling.nearest(to: written, among: all).map { "did you mean '\($0)'?" })
  }

  /// At most two words with a colon between them.
  private static func pair(_ written: String) throws(CommandArgumentError) -> (String, String) {
    let words = written.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    guard words.count <= 2 else { throw CommandArgumentError(reason: "has more than two words between its brackets") }
    return (words[0], words.count == 2 ? words[1] : "")
  }

  /// `name` or `name?other`.
  static func field(
    _ message: Message, _ written: String, hasQuery: Bool
  ) throws(CommandArgumentError) -> CommandOperator {
    let names = written.utf8.map(ASCII.lowercased).split(separator: 0x3F, omittingEmptySubsequences: false).map(Array.init)
    guard names.count <= 2 else { throw CommandArgumentError(reason: "names more than one other field") }
    for name in names where !isFieldName(name) {
      throw CommandArgumentError(reason: "names '\(String(decoding: name, as: UTF8.self).prefix(60))', which is no field name")
    }
    return .field(message, names[0], else: names.count == 2 ? names[1] : nil, hasQuery: hasQuery)
  }

  /// A token, or the name of a pseudo-header (RFC 9110 5.6.2, RFC 9113 8.3).
  private static func isFieldName(_ name: [UInt8]) -> Bool {
    let token = name.first == 0x3A ? name.dropFirst() : name[...]
    return !token.isEmpty && token.count <= TelemetryLimits.fieldNameBytesMax
      && token.allSatisfy { ASCII.isLowerAlphanumeric($0) || "!#$%&'*+-.^_`|~".utf8.contains($0) }
  }

  static func path(_ written: String) throws(CommandArgumentError) -> CommandOperator {
    enum Query: String, CaseIterable {
      case with = "WQ"
      case without = "NQ"
    }
    let (query, source) = try pair(written)
    return .path(
      try choice(source, of: PathSource.allCases, or: .originalOrCurrent),
      hasQuery: try choice(query, of: Query.allCases, or: .with) == .with)
  }

  static func serverName(_ written: String) throws(CommandArgumentError) -> CommandOperator {
    let (source, host) = try pair(written)
    return .requestedServerName(
      try choice(source, of: ServerNameSource.allCases, or: .serverName),
      try choice(host, of: RequestHost.allCases, or: .originalOrCurrent))
  }

  /// `START:END` or `START:END:UNIT`.
  static func duration(_ written: String) throws(CommandArgumentError) -> CommandOperator {
    let words = written.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    guard (2...3).contains(words.count) else {
      throw CommandArgumentError(
        reason: "does not name two points in time", hint: "write '%COMMON_DURATION(DS_RX_BEG:DS_TX_END)%'")
    }
    let unit = try choice(words.count == 3 ? words[2] : "", of: DurationUnit.allCases, or: .milliseconds)
    guard let from = TimePoint.names[words[0]], let to = TimePoint.names[words[1]] else {
      for word in words.prefix(2) where TimePoint.names[word] == nil && !TimePoint.absent.contains(word) {
        let near = Spelling.nearest(to: word, among: TimePoint.names.keys.sorted())
        // Envoy takes other words for points that a filter of its own may set.
        if let near, near != word, word.hasPrefix("DS_") || word.hasPrefix("US_") {
          throw CommandArgumentError(
            reason: "names '\(word.prefix(40))', which is no point in time", hint: "did you mean '\(near)'?")
        }
      }
      return .absent
    }
    return .duration(from, to, unit)
  }

  static func time(_ make: @escaping @Sendable (TimePattern?) -> CommandOperator) -> Row {
    Row(.optional, hasLength: false) { written throws(CommandArgumentError) in
      if written.isEmpty { return make(nil) }
      guard let pattern = TimePattern(written) else {
        throw CommandArgumentError(
          reason: "has a pattern that says no time", hint: "write directives of strftime, like %Y-%m-%dT%H:%M:%S")
      }
      return make(pattern)
    }
  }

  /// Bits of a network; nil: the address itself.
  static func networkBits(_ written: String) throws(CommandArgumentError) -> UInt8? {
    if written.isEmpty { return nil }
    guard let bits = parseDecimal(written.utf8, max: 128) else {
      throw CommandArgumentError(
        reason: "has the argument '\(written.prefix(40))', where a number of bits from 0 to 128 is expected")
    }
    return UInt8(clamping: bits)
  }

  /// `{"operators": ["NAME", {"command": "NAME", "param": "…", "max_length": 9}]}`
  static func coalesce(_ written: String) throws(CommandArgumentError) -> CommandOperator {
    let expected = CommandArgumentError(
      reason: "is not followed by an object in JSON that lists operators",
      hint:
        "write '%COALESCE({\"operators\": [\"REQUESTED_SERVER_NAME\", {\"command\": \"REQ\", \"param\": \":authority\"}]})%'")
    guard let document = try? JSONValue(parsing: Array(written.utf8), limits: TelemetryLimits.argument),
      let items = document["operators"]?.array, !items.isEmpty, items.count <= TelemetryLimits.coalescedOperatorsMax
    else { throw expected }
    var all: [BoundedOperator] = []
    for item in items {
      var text = ""
      switch item {
      case .string(let name): text = name
      case .object:
        guard let name = item["command"]?.string else { throw expected }
        text = name
        if let parameter = item["param"]?.string { text += "(\(parameter))" }
        if let length = item["max_length"]?.unsigned { text += ":\(length)" }
      default: throw expected
      }
      do throws(CommandProblem) {
        let one = try parse(text)
        if case .first = one.command { throw CommandProblem(text, "cannot stand in another") }
        all.append(one)
      } catch {
        throw CommandArgumentError(reason: "lists \(error)", hint: error.hint)
      }
    }
    return .first(all)
  }
}
