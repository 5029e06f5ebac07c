/// Values by host name or wildcard. The most specific pattern that covers a name is found without looking at the others.
struct HostIndex<Value: Sendable>: Sendable {
  private var exact: [String: Value] = [:]
  /// By the whole pattern, `*` or `*.example.com`.
  private var wildcards: [String: Value] = [:]

  subscript(pattern: String) -> Value? {
    get { pattern.utf8.first == 0x2A ? wildcards[pattern] : exact[pattern] }
    set { if pattern.utf8.first == 0x2A { wildcards[pattern] = newValue } else { exact[pattern] = newValue } }
  }

  /// Values of all patterns that cover `host`, the most specific first, until `body` has an answer.
  func first<Answer>(covering host: String, _ body: (Value) -> Answer?) -> Answer? {
    if let value = exact[host], let answer = body(value) { return answer }
    if wildcards.isEmpty { return nil }
    for pattern in HostName.wildcards(covering: host) {
      if let value = wildcards[pattern], let answer = body(value) { return answer }
    }
    return nil
  }

  func value(covering host: String) -> Value? { first(covering: host) { $0 } }

  /// Every pattern, exact names first, the more specific before the less.
  var patterns: [String] { exact.keys.sorted() + wildcards.keys.sorted(by: HostName.isMoreSpecific) }
  var isEmpty: Bool { exact.isEmpty && wildcards.isEmpty }
  var hasWildcards: Bool { !wildcards.isEmpty }
}

extension HostName {
  /// Every wildcard that covers a name, the longest first.
  static func wildcards(covering host: String) -> [String] {
    var found: [String] = []
    let bytes = host.utf8
    var start = bytes.startIndex
    while let dot = bytes[start...].firstIndex(of: 0x2E) {
      found.append("*" + host[dot...])
      start = bytes.index(after: dot)
    }
    return found + ["*"]
  }
}
