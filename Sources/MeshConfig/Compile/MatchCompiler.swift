import Telemetry

/// Turns `http[].match[]` entries into byte matches.
enum MatchCompiler {
  /// nil when the entry can never hold: it asks for a token's claim, of which there is none while tokens are not verified, or
  /// has a pattern that no longer compiles.
  static func compile(_ match: VirtualService.HTTPMatch) -> RouteMatch? {
    let isClaim: (Keyed<VirtualService.TextMatch>) -> Bool = { $0.key.hasPrefix("@request.auth.claims") }
    if match.headers.contains(where: isClaim) { return nil }
    guard let headers = fields(match.headers, lowercased: true),
      // No request has the claims that these ask to be absent.
      let withoutHeaders = fields(match.withoutHeaders.filter { !isClaim($0) }, lowercased: true),
      let queryParameters = fields(match.queryParams, lowercased: false)
    else { return nil }
    var result = RouteMatch(
      ignorePathCase: match.ignoreURICase, headers: headers, withoutHeaders: withoutHeaders,
      queryParameters: queryParameters, name: match.name.isEmpty ? nil : match.name)
    switch match.uri {
    case .exact(let text): result.path = .exact(Array(text.utf8))
    case .prefix(let text): result.path = .prefix(Array(text.utf8))
    case .regex(let text):
      guard let pattern = try? Pattern(text) else { return nil }
      result.path = .regex(pattern)
    case .present, nil: break
    }
    for (written, path) in [(match.scheme, \RouteMatch.scheme), (match.method, \.method), (match.authority, \.authority)] {
      guard let written else { continue }
      guard let compiled = text(written) else { return nil }
      result[keyPath: path] = compiled
    }
    return result
  }

  private static func fields(_ written: [Keyed<VirtualService.TextMatch>], lowercased: Bool) -> [FieldMatch]? {
    var result: [FieldMatch] = []
    for field in written {
      guard let compiled = text(field.value) else { return nil }
      result.append(FieldMatch(name: Array((lowercased ? field.key.lowercased() : field.key).utf8), match: compiled))
    }
    return result
  }

  static func text(_ match: VirtualService.TextMatch) -> StringMatch? {
    switch match {
    case .exact(let text): .exact(Array(text.utf8))
    case .prefix(let text): .prefix(Array(text.utf8))
    case .regex(let text): (try? Pattern(text)).map { .regex($0) }
    case .present: .present
    }
  }
}

/// Header operations: lower-case names in byte order; operations on the authority are taken out.
struct HeaderCompiler {
  let operations: HeaderOperations
  /// What `set` or `add` of `host` or `:authority` asks for; `set` beats `add`.
  let authority: [UInt8]?

  /// For destinations: the authority as a `set` of `:authority`.
  var withAuthority: HeaderOperations {
    guard let authority else { return operations }
    var copy = operations
    copy.set.insert(HeaderOperations.Field(name: Array(":authority".utf8), value: authority), at: 0)
    return copy
  }

  static func request(_ written: VirtualService.Headers.Operations) -> HeaderCompiler {
    let isAuthority: (String) -> Bool = { $0 == ":authority" || $0 == "host" }
    let set = sorted(written.set)
    let add = sorted(written.add)
    let authority = (set + add).first { isAuthority($0.name) }?.value
    return HeaderCompiler(
      operations: HeaderOperations(
        remove: written.remove.map { Array($0.lowercased().utf8) },
        set: set.filter { !isAuthority($0.name) }.map(field), add: add.filter { !isAuthority($0.name) }.map(field)),
      authority: authority.map { Array(unescaped($0).utf8) })
  }

  static func response(_ written: VirtualService.Headers.Operations) -> HeaderOperations {
    HeaderOperations(
      remove: written.remove.map { Array($0.lowercased().utf8) }, set: sorted(written.set).map(field),
      add: sorted(written.add).map(field))
  }

  private static func sorted(_ fields: [String: String]) -> [(name: String, value: String)] {
    fields.map { (name: $0.key.lowercased(), value: $0.value) }.sorted { ($0.name, $0.value) < ($1.name, $1.value) }
  }

  /// A field and what its value is made of.
  static func field(_ pair: (name: String, value: String)) -> HeaderOperations.Field {
    let name = Array(pair.name.utf8)
    let written = Array(pair.value.utf8)
    guard written.contains(0x25), let format = CommandFormat(pair.value) else {
      return HeaderOperations.Field(name: name, value: written)
    }
    if let fixed = format.fixed { return HeaderOperations.Field(name: name, value: fixed) }
    return HeaderOperations.Field(name: name, value: written, format: format)
  }

  /// `%%` is a literal percent sign.
  private static func unescaped(_ value: String) -> String {
    CommandFormat(value)?.fixed.map { String(decoding: $0, as: UTF8.self) } ?? value
  }
}
